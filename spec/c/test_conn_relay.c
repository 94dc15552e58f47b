/* Whose mail a stranger may send where: every spelling of somebody else's address is somebody else's. */
#include "support/pump.h"

#define UPTO_MAIL "HELO a.example\r\nMAIL FROM:<a@b.example>\r\n"

TEST(no_spelling_of_a_strangers_address_relays)
{
  static const struct {
    const char *path, *said;
  } rows[] = {
    { "<x@evil.example>", "550 Relaying denied\r\n" },
    { "<@example.org:x@evil.example>", "550 Relaying denied\r\n" },
    { "<@example.org,@b.example:x@evil.example>", "550 Relaying denied\r\n" },
    { "<postmaster@evil.example>", "550 Relaying denied\r\n" },
    { "<x@example.org.evil.example>", "550 Relaying denied\r\n" },
    { "<x@evilexample.org>", "550 Relaying denied\r\n" },
    { "<x@sub.example.org>", "550 Relaying denied\r\n" },
    { "<\"x@example.org\"@evil.example>", "550 Relaying denied\r\n" },
    { "<x@[192.0.2.26]>", "550 Relaying denied\r\n" },
    { "<x@[203.0.113.9]>", "550 Relaying denied\r\n" },
    { "<x@[127.0.0.1]>", "550 Relaying denied\r\n" },
    { "<x@[IPv6:::1]>", "550 Relaying denied\r\n" },
    { "<x@[IPv6:2001:db8::25]>", "550 Relaying denied\r\n" },
    { "<x@[x-tag:example.org]>", "550 Relaying denied\r\n" },
    { "<x@evil.example@example.org>", "501 Bad recipient address syntax\r\n" },
    { "<x@example.org@evil.example>", "501 Bad recipient address syntax\r\n" },
    { "<x@example.org >", "501 Bad recipient address syntax\r\n" },
    { "<x@example.org.>", "501 Bad recipient address syntax\r\n" },
    { "<\"postmaster\">", "501 Bad recipient address syntax\r\n" },
    { "<root>", "501 Bad recipient address syntax\r\n" },
    { "<@evil.example:postmaster>", "501 Bad recipient address syntax\r\n" },
    /* Ours, whatever the local part looks like: it is nobody's but the policy's to read (RFC 5321 2.3.11). */
    { "<x%evil.example@example.org>", "250 Recipient OK\r\n" },
    { "<evil.example!x@EXAMPLE.org>", "250 Recipient OK\r\n" },
    { "<\"x@evil.example\"@example.org>", "250 Recipient OK\r\n" },
    { "<@evil.example:x@example.org>", "250 Recipient OK\r\n" },
    { "<PostMaster>", "250 Recipient OK\r\n" },
    { "<x@[192.0.2.25]>", "250 Recipient OK\r\n" },
    { "<x@[IPv6:::ffff:192.0.2.25]>", "250 Recipient OK\r\n" },
  };
  pump p;
  mp_server_opts opts;
  mp_server_opts_init(&opts, MP_PROTOCOL_SMTP);
  opts.tolerate_early = true;
  REQUIRE(pump_open(&p, &opts));
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    for (int bytewise = 0; bytewise < 2; bytewise++) {
      mp_stream *s = pump_connect(&p, 9);
      REQUIRE(s);
      pump_send(&p, s, UPTO_MAIL);
      mp_buf *said = mp_stream_written(s);
      mp_buf_consume(said, said->len);
      char line[200];
      int len = snprintf(line, sizeof line, "RCPT TO:%s\r\n", rows[i].path);
      for (int at = 0; bytewise && at < len; at++) {
        mp_stream_inject(s, line + at, 1);
        pump_turn(&p);
      }
      if (!bytewise)
        pump_send(&p, s, line);
      if (!CHECK_EQ_STR(mp_buf_view(said), mp_str_c(rows[i].said)))
        FAIL("  for %s", rows[i].path);
      mp_stream_release(s);
      pump_turn(&p);
    }
  pump_close(&p);
}

CHECK_MAIN
