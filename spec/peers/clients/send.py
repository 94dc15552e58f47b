"""Sends one mail by smtplib and prints what came of it as one line of JSON.

The only argument is JSON: host, port or path (LMTP), mode ("plain", "starttls", "implicit", "lmtp"), ca, cert and key, mech,
user, password, from, to (a list), file, options (of MAIL), rcpt_options. Every reply of the server that smtplib objects to
comes back as "error" with "code" and "text"; "refused" maps recipients to codes."""
import json
import smtplib
import ssl
import sys

TIMEOUT = 60


def context(ask):
    made = ssl.create_default_context(cafile=ask["ca"])
    if "cert" in ask:
        made.load_cert_chain(ask["cert"], ask["key"])
    return made


def connect(ask):
    mode = ask.get("mode", "plain")
    if mode == "lmtp":
        if "path" in ask:
            return smtplib.LMTP(ask["path"], local_hostname="client.example.net")
        return smtplib.LMTP(ask["host"], ask["port"], local_hostname="client.example.net")
    if mode == "implicit":
        return smtplib.SMTP_SSL(ask["host"], ask["port"], local_hostname="client.example.net", timeout=TIMEOUT, context=context(ask))
    smtp = smtplib.SMTP(ask["host"], ask["port"], local_hostname="client.example.net", timeout=TIMEOUT)
    if mode == "starttls":
        smtp.starttls(context=context(ask))
    return smtp


def login(smtp, ask):
    mech = ask["mech"]
    smtp.ehlo_or_helo_if_needed()
    smtp.user, smtp.password = ask["user"], ask["password"]
    methods = {"PLAIN": smtp.auth_plain, "LOGIN": smtp.auth_login, "CRAM-MD5": smtp.auth_cram_md5}
    smtp.auth(mech, methods[mech], initial_response_ok=ask.get("initial", True))


def refused(table):
    return {address: [code, text.decode()] for address, (code, text) in table.items()}


def send(ask):
    smtp = connect(ask)
    answer = {}
    try:
        if "mech" in ask:
            login(smtp, ask)
        with open(ask["file"], "rb") as file:
            octets = file.read()
        answer["refused"] = refused(smtp.sendmail(ask["from"], ask["to"], octets, ask.get("options", []),
                                                  ask.get("rcpt_options", [])))
        answer["features"] = sorted(smtp.esmtp_features)
        smtp.quit()
    except smtplib.SMTPRecipientsRefused as err:
        answer.update(error="recipients", refused=refused(err.recipients))
    except smtplib.SMTPResponseException as err:
        answer.update(error=type(err).__name__, code=err.smtp_code, text=err.smtp_error.decode())
    finally:
        smtp.close()
    return answer


print(json.dumps(send(json.loads(sys.argv[1]))))
