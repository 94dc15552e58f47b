/* Each scenario again with allocation 0, 1, 2, ... failing, on both sides of the wire: nothing leaks, each operation that began ends in one DONE,
 * and nobody is told that a message arrived which did not. */
#include "support/duet.h"

typedef struct scenario {
  mp_protocol protocol;
  bool tls, chunked, refuse, lock_step, known;
  int mech; /* -1: no AUTH */
} scenario;

static const scenario scenarios[] = {
  { .mech = -1 },
  { .mech = -1, .lock_step = true, .refuse = true },
  { .mech = -1, .chunked = true },
  { .mech = -1, .chunked = true, .known = true },
  { .protocol = MP_PROTOCOL_LMTP, .mech = -1 },
  { .tls = true, .mech = MP_MECH_PLAIN },
  { .tls = true, .mech = MP_MECH_LOGIN },
  { .tls = true, .mech = MP_MECH_CRAM_MD5 },
  { .tls = true, .mech = MP_MECH_SCRAM_SHA_256_PLUS },
  { .tls = true, .mech = MP_MECH_OAUTHBEARER },
};

static mp_sasl_ctx *ctx;

/* One operation: asked for, and if it began, waited for. True: go on. */
static bool after(duet *d, int rc, size_t *begun)
{
  if (rc < 0) {
    CHECK(rc == MP_E_NOMEM || rc == MP_E_CLOSED);
    return false;
  }
  ++*begun;
  duet_run(d);
  if (d->w.closed && !d->c.closed)
    mp_client_lost(d->c.cl, MP_E_EOF, "closed");
  duet_run(d);
  return d->c.done.ok;
}

static void talk(duet *d, const scenario *s, cwire_tx *t, size_t *begun)
{
  ++*begun; /* the banner */
  duet_run(d);
  if (!d->c.done.ok || !after(d, mp_client_hello(d->c.cl, d->c.now), begun))
    return;
  if (s->tls) {
    if (mp_client_starttls(d->c.cl, d->c.now) < 0)
      return;
    ++*begun;
    duet_run(d);
    if (mp_client_tls_done(d->c.cl, &duet_tls, d->c.now) < 0)
      mp_client_lost(d->c.cl, MP_E_NOMEM, "out of memory");
    duet_run(d);
    if (!d->c.done.ok || !after(d, mp_client_hello(d->c.cl, d->c.now), begun))
      return;
  }
  static const mp_client_login password = { .user = { "tim", 3 }, .password = { "correct horse", 13 } };
  static const mp_client_login token = { .user = { "tim", 3 }, .token = { "tok", 3 }, .port = 587 };
  if (s->mech >= 0 &&
      !after(d, mp_client_auth(d->c.cl, s->mech == MP_MECH_OAUTHBEARER ? &token : &password, d->c.now), begun))
    return;
  cwire_body(&d->c, MP_STR("one\n.two\r\n"));
  after(d, mp_client_send(d->c.cl, &t->tx, d->c.now), begun);
  if (d->c.closed)
    return;
  after(d, mp_client_quit(d->c.cl, d->c.now), begun);
}

static void play(const scenario *s, size_t slice)
{
  duet d;
  cwire_tx t;
  duet_init(&d, s->protocol, slice);
  d.w.opts.mechanisms = s->mech < 0 ? 0 : 1u << s->mech;
  d.w.opts.sasl = d.c.opts.sasl = ctx;
  d.w.opts.sasl_secret = MP_STR("sixteen octets and more");
  d.w.opts.sasl_iterations = 1;
  d.c.opts.chunk_from = 0;
  d.c.opts.ignore = s->lock_step ? (unsigned)MP_EXT_PIPELINING : 0u;
  cwire_tx_init(&t, TO("b@example.org", "c@example.org"));
  if (s->chunked)
    t.tx.params = (mp_mail_params){ .given = MP_PARAM_SIZE, .size = 10 };
  if (s->refuse)
    wire_answer_next(&d.w, MP_EV_RCPT, MP_REPLY(550, 5, 1, 1, "nobody"));
  t.rcpts[1].params = (mp_rcpt_params){ .given = MP_PARAM_ORCPT, .orcpt = MP_STR("rfc822;c@example.org") };
  size_t begun = 0;
  if (wire_start(&d.w)) {
    if (cwire_start(&d.c, s->known ? &duet_tls : NULL))
      talk(&d, s, &t, &begun);
    CHECK_EQ_INT(d.c.dones, begun);
    for (size_t i = 0; i < t.tx.count; i++) {
      mp_rcpt_state state = (mp_rcpt_state)t.rcpts[i].result.state;
      CHECK(state != MP_RCPT_DELIVERED || d.w.messages == 1);
      CHECK(state != MP_RCPT_ACCEPTED);
    }
    if (!CHECK_ALLOC_FAILED()) {
      CHECK_EQ_INT(d.w.messages, 1);
      CHECK_EQ_INT(mp_transaction_count(&t.tx, MP_RCPT_DELIVERED), s->refuse ? 1 : 2);
    }
  }
  mp_transaction_dispose(&t.tx);
  duet_close(&d);
}

TEST(every_allocation_fails_in_turn)
{
  REQUIRE(mp_sasl_ctx_new(&ctx) == 0);
  for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
    for (size_t slice = 0; slice < 8; slice += 7)
      FOR_EACH_ALLOC_FAILURE {
        play(&scenarios[i], slice);
      }
  mp_sasl_ctx_free(ctx);
}

CHECK_MAIN
