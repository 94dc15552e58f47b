"""Reads a message with Python's email package from standard input, and prints what it finds as one line of JSON.

headers and parts: [name, value] pairs and parts in order. A part has type, params, encoding, text (decoded), headers, and
for a delivery status its blocks of fields. defects: everything the parser objects to, of all parts;
value_defects: what it objects to in the values of fields, which is everything beyond ASCII."""
import email
import email.policy
import json
import sys


def text(part):
    if part.is_multipart():
        return None
    octets = part.get_payload(decode=True)
    return None if octets is None else octets.decode("utf-8", "surrogateescape").encode("utf-8", "replace").decode("utf-8")


def fields(part):
    return [[name, " ".join(str(value).split())] for name, value in part.items()]


def show(part):
    shown = {
        "type": part.get_content_type(),
        "params": dict(part.get_params(failobj=[], unquote=True)[1:]),
        "encoding": part.get("Content-Transfer-Encoding", "7bit").lower(),
        "headers": fields(part),
        "text": text(part),
    }
    if part.get_content_type() in ("message/delivery-status", "message/global-delivery-status"):
        # older versions read the second form as a message whose body are the blocks behind the first one
        blocks = part.get_payload()
        if isinstance(blocks, str) or len(blocks) == 1 and part.get_content_subtype() != "delivery-status":
            raw = part.as_bytes().replace(b"\r\n", b"\n").split(b"\n\n", 1)[1]
            blocks = [email.message_from_bytes(b, policy=email.policy.SMTPUTF8) for b in raw.split(b"\n\n") if b.strip()]
        shown["blocks"] = [fields(block) for block in blocks if block.items()]
    elif part.is_multipart():
        shown["parts"] = [show(inner) for inner in part.get_payload()]
    return shown


def main():
    message = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.SMTPUTF8)
    answer = show(message)
    answer["defects"] = [repr(defect) for part in message.walk() for defect in part.defects]
    values = [value for part in message.walk() for _, value in part.items()]
    answer["value_defects"] = [repr(defect) for value in values for defect in getattr(value, "defects", ())]
    print(json.dumps(answer))


main()
