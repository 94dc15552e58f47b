"""Signs or verifies a message of standard input with dkimpy. The argument is JSON.

{"records": {name: text}}: verifies every signature; prints a JSON list of [holds, why not].
{"key": path, "selector":, "domain":, "algorithm":, "canonicalization": [header, body], "identity":}: prints the field."""
import json
import sys

import dkim


def verify(ask, message):
    records = {name: text.encode() for name, text in ask["records"].items()}

    def lookup(name, timeout=5):
        return records.get(name.decode().rstrip("."))

    answers = []
    count = sum(1 for line in message.split(b"\r\n\r\n")[0].split(b"\r\n") if line.lower().startswith(b"dkim-signature:"))
    for i in range(count):
        try:
            answers.append([dkim.DKIM(message).verify(idx=i, dnsfunc=lookup), None])
        except dkim.DKIMException as err:
            answers.append([False, str(err)])
    print(json.dumps(answers))


def sign(ask, message):
    with open(ask["key"], "rb") as file:
        key = file.read()
    header, body = (form.encode() for form in ask["canonicalization"])
    identity = ask.get("identity")
    field = dkim.sign(
        message, ask["selector"].encode(), ask["domain"].encode(), key, identity=identity and identity.encode(),
        canonicalize=(header, body), signature_algorithm=ask["algorithm"].encode(),
    )
    sys.stdout.buffer.write(field)


def main():
    ask, message = json.loads(sys.argv[1]), sys.stdin.buffer.read()
    (verify if "records" in ask else sign)(ask, message)


main()
