/* Ticket keys on a clock of our own, and sessions that resume. */
#include "support/tls_peer.h"

#include "tls/ticket.h"

enum { PERIOD = MP_TLS_TICKET_ROTATE_S };

TEST(a_key_seals_for_one_period_and_opens_for_two)
{
  mp_tls_tickets *tickets = mp_tls_tickets_new();
  mp_tls_ticket_key first, second, found;
  REQUIRE(tickets);
  CHECK(mp_tls_tickets_seal(tickets, 1000, &first));
  CHECK(mp_tls_tickets_seal(tickets, 1000 + PERIOD - 1, &second));
  CHECK(memcmp(&first, &second, sizeof first) == 0);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 1000 + PERIOD - 1, first.name, &found), 1);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 1000 + PERIOD, first.name, &found), 2); /* open, but time for another */
  CHECK(mp_tls_tickets_seal(tickets, 1000 + PERIOD + 10, &second));
  CHECK(memcmp(first.name, second.name, 16) != 0 && memcmp(first.aes, second.aes, 32) != 0 &&
        memcmp(first.hmac, second.hmac, 32) != 0);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 1000 + PERIOD + 10, second.name, &found), 1);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 1000 + 2 * PERIOD - 1, first.name, &found), 2);
  CHECK(memcmp(&first, &found, sizeof first) == 0);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 1000 + 2 * PERIOD, first.name, &found), 0);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 1000 + 2 * PERIOD + 10, second.name, &found), 2);
  mp_tls_tickets_unref(tickets);
}

TEST(a_key_that_slept_through_its_time_is_gone)
{
  mp_tls_tickets *tickets = mp_tls_tickets_new();
  mp_tls_ticket_key first, second, found;
  unsigned char unknown[16] = "never was";
  REQUIRE(tickets);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 0, unknown, &found), 0);
  CHECK(mp_tls_tickets_seal(tickets, 0, &first));
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 0, unknown, &found), 0);
  CHECK(mp_tls_tickets_seal(tickets, 5 * PERIOD, &second));
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 5 * PERIOD, first.name, &found), 0);
  CHECK_EQ_INT(mp_tls_tickets_open(tickets, 5 * PERIOD, second.name, &found), 1);
  mp_tls_tickets *again = mp_tls_tickets_ref(tickets);
  mp_tls_tickets_unref(tickets);
  CHECK_EQ_INT(mp_tls_tickets_open(again, 5 * PERIOD, second.name, &found), 1);
  mp_tls_tickets_unref(again);
  mp_tls_tickets_unref(NULL);
}

/* One whole session that offers `session`, if any. Returns what the client was given to resume with (counted), and says whether this
 * one resumed. */
static SSL_SESSION *meet(mp_tls_config *config, SSL_SESSION *session, int version, bool *resumed, mp_str *sni)
{
  static char name[64];
  peer client;
  mp_tls *tls;
  mp_tls_info info;
  SSL_SESSION *given = NULL;
  *resumed = false;
  session = session ? SSL_SESSION_dup(session) : NULL; /* a client of TLS 1.3 offers a ticket once */
  peer_init(&client, (peer_opts){ .max = version, .sni = "sni.example", .session = session });
  if (mp_tls_accept(&tls, config, NULL) < 0)
    return NULL;
  if (CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1)) {
    mp_tls_info_get(tls, &info);
    *resumed = info.resumed;
    CHECK_EQ_INT(info.resumed, SSL_session_reused(client.ssl));
    memcpy(name, info.sni.ptr, info.sni.len);
    *sni = mp_str_of(name, info.sni.len);
    given = client.ticket;
    client.ticket = NULL;
  }
  mp_tls_free(tls);
  peer_dispose(&client);
  SSL_SESSION_free(session);
  return given;
}

TEST(a_client_resumes_and_across_a_reload_too)
{
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    bool resumed;
    mp_str sni;
    mp_tls_config *before = peer_config((mp_tls_opts){ 0 }), *after = peer_config((mp_tls_opts){ 0 });
    mp_tls_config *stranger = peer_config((mp_tls_opts){ 0 });
    REQUIRE(before && after && stranger);
    mp_tls_config_inherit(after, before);
    SSL_SESSION *first = meet(before, NULL, version, &resumed, &sni);
    REQUIRE(first);
    CHECK(!resumed);
    SSL_SESSION *second = meet(before, first, version, &resumed, &sni);
    CHECK(resumed);
    CHECK(second || version < TLS1_3_VERSION); /* what it had is used up */
    CHECK_STR(sni, "sni.example");
    SSL_SESSION_free(second);
    mp_tls_config_unref(before);
    second = meet(after, first, version, &resumed, &sni);
    CHECK(resumed);
    CHECK_STR(sni, "sni.example");
    SSL_SESSION_free(second);
    second = meet(stranger, first, version, &resumed, &sni);
    CHECK(!resumed); /* a whole handshake, not a failure */
    SSL_SESSION_free(second);
    SSL_SESSION_free(first);
    mp_tls_config_unref(after);
    mp_tls_config_unref(stranger);
  }
}

TEST(tickets_can_be_off)
{
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    bool resumed;
    mp_str sni;
    mp_tls_config *with = peer_config((mp_tls_opts){ 0 }),
                  *without = peer_config((mp_tls_opts){ .no_tickets = true });
    mp_tls_config_inherit(without, with);
    mp_tls_config_inherit(with, without);
    SSL_SESSION *first = meet(with, NULL, version, &resumed, &sni);
    SSL_SESSION *second = meet(without, first, version, &resumed, &sni);
    CHECK(!resumed);
    CHECK(!second || !SSL_SESSION_has_ticket(second));
    SSL_SESSION_free(second);
    SSL_SESSION_free(first);
    mp_tls_config_unref(with);
    mp_tls_config_unref(without);
  }
}

TEST(a_reload_that_changes_the_cas_resumes_nobody)
{
  peer_id one = peer_make(&(peer_cert){ .cn = "CA 1", .ca = true }),
          two = peer_make(&(peer_cert){ .cn = "CA 2", .ca = true });
  const char *path = peer_pem("ca.pem", one.cert, NULL);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    bool resumed;
    mp_str sni;
    peer_pem("ca.pem", one.cert, NULL);
    mp_tls_opts opts = { .client = MP_TLS_VERIFY_ASK, .client_ca = path };
    mp_tls_config *before = peer_config(opts), *same = peer_config(opts);
    peer_pem("ca.pem", two.cert, NULL);
    mp_tls_config *other = peer_config(opts);
    REQUIRE(before && same && other);
    mp_tls_config_inherit(same, before);
    mp_tls_config_inherit(other, before);
    SSL_SESSION *first = meet(before, NULL, version, &resumed, &sni);
    SSL_SESSION_free(meet(same, first, version, &resumed, &sni));
    CHECK(resumed);
    SSL_SESSION_free(meet(other, first, version, &resumed, &sni));
    CHECK(!resumed);
    SSL_SESSION_free(first);
    mp_tls_config_unref(before);
    mp_tls_config_unref(same);
    mp_tls_config_unref(other);
  }
  peer_id_free(&one);
  peer_id_free(&two);
}

CHECK_MAIN
