"""aiosmtpd for specs. The only argument is JSON: folder, certificate, key, user, password.

Says on standard output which ports it listens at and then a line of JSON for each message, before its reply."""
import asyncio
import json
import os
import ssl
import sys

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, AuthResult

ask = json.loads(sys.argv[1])


class Keeper:
    count = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("nobody@"):
            return "550 5.1.1 No such mailbox"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.append(options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        self.count += 1
        name = os.path.join(ask["folder"], "%d.eml" % self.count)
        with open(name, "wb") as file:
            file.write(envelope.original_content)
        login = session.auth_data
        say(file=name, sender=envelope.mail_from, recipients=envelope.rcpt_tos, options=envelope.mail_options,
            parameters=envelope.rcpt_options, user=login and login.login.decode(), helo=session.host_name,
            tls=session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None)
        # one reply for each recipient over LMTP, which the package leaves to us
        return "\r\n".join(["250 2.0.0 OK"] * (len(envelope.rcpt_tos) if isinstance(server, LMTP) else 1))


def say(**fields):
    print(json.dumps(fields, separators=(",", ":")), flush=True)


def login(server, session, envelope, mechanism, data):
    good = data.login == ask["user"].encode() and data.password == ask["password"].encode()
    return AuthResult(success=good, handled=good, auth_data=data)


async def serve():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ask["certificate"], ask["key"])
    keeper = Keeper()

    def smtp(kind=SMTP, **more):
        return lambda: kind(keeper, data_size_limit=60000000, enable_SMTPUTF8=True, hostname="mx.example.org",
                            authenticator=login, loop=loop, **more)

    async def listen(factory, tls=None):
        server = await loop.create_server(factory, "127.0.0.1", 0, ssl=tls)
        return server.sockets[0].getsockname()[1]

    say(listening={
        "plain": await listen(smtp(tls_context=context)),
        "implicit": await listen(smtp(auth_require_tls=False), context),
        "lmtp": await listen(smtp(LMTP)),
    })


loop = asyncio.new_event_loop()
loop.run_until_complete(serve())
loop.run_forever()
