"""Signs or verifies a message of standard input with dkimpy. The argument is JSON.

{"records": {name: text}}: verifies every signature; prints a JSON list of [holds, why not].
{"key": path, "selector":, "domain":, "algorithm":, "canonicalization": [header, body], "identity":}: prints the field.
{"chain": {name: text}}: judges the chain of ARC; prints a JSON list of [what it is worth, why].
{"key": path, "selector":, "domain":, "server":}: seals with the Authentication-Results of that server; prints the fields."""
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


def chain(ask, message):
    records = {name: text.encode() for name, text in ask["chain"].items()}
    worth, _, why = dkim.arc_verify(message, dnsfunc=lambda name, timeout=5: records.get(name.decode().rstrip(".")))
    print(json.dumps([worth.decode(), why]))


def seal(ask, message):
    with open(ask["key"], "rb") as file:
        key = file.read()
    fields = dkim.arc_sign(message, ask["selector"].encode(), ask["domain"].encode(), key, ask["server"].encode())
    sys.stdout.buffer.write(b"".join(fields))


def main():
    ask, message = json.loads(sys.argv[1]), sys.stdin.buffer.read()
    ways = {"records": verify, "chain": chain, "server": seal}
    next((way for name, way in ways.items() if name in ask), sign)(ask, message)


main()
