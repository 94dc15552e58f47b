/* The commands of a session without TLS, AUTH or a body of interest (RFC 5321). */
#include "support/wire.h"

#define EHLO_REPLY                 \
  "250-mx.example.org\r\n"         \
  "250-PIPELINING\r\n"             \
  "250-SIZE 50000000\r\n"          \
  "250-8BITMIME\r\n"               \
  "250-SMTPUTF8\r\n"               \
  "250-CHUNKING\r\n"               \
  "250-ENHANCEDSTATUSCODES\r\n"    \
  "250 LIMITS MAILMAX=1000 RCPTMAX=100\r\n"

TEST(a_message_from_banner_to_quit)
{
  FOR_EACH_SLICE (slice) {
    wire w;
    wire_init(&w, MP_PROTOCOL_SMTP, slice);
    REQUIRE(wire_start(&w));
    CHECK_SAID(&w, "220 mx.example.org ESMTP moonpost\r\n");
    CHECK_EVENTS(&w, "connect");
    TALK(&w, "EHLO client.example.net\r\n", EHLO_REPLY);
    TALK(&w, "MAIL FROM:<a@example.net>\r\n", "250 2.1.0 Sender OK\r\n");
    TALK(&w, "RCPT TO:<b@example.org>\r\n", "250 2.1.5 Recipient OK\r\n");
    TALK(&w, "DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n");
    TALK(&w, "Subject: x\r\n\r\n..dot\r\n.\r\n", "250 2.0.0 OK\r\n");
    TALK(&w, "QUIT\r\n", "221 2.0.0 mx.example.org Bye\r\n");
    CHECK_EVENTS(&w, "ehlo=client.example.net mail=a@example.net rcpt=b@example.org data message=20 quit close");
    CHECK_BODY(&w, "Subject: x\r\n\r\n.dot\r\n");
    wire_close(&w);
  }
}

CHECK_MAIN
