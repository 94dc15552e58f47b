/* support/duet.h -- our client and our server in one room: what one says is fed to the other, in slices, until both rest. */
#ifndef MP_SPEC_DUET_H
#define MP_SPEC_DUET_H

#include "support/wire.h"

#include "support/client_wire.h"

typedef struct duet {
  wire w;
  cwire c;
  mp_sasl_ctx *ctx;
  wire_text heard; /* all that the server said since the last look */
  wire_text asked; /* all that the client said */
  size_t flights;  /* times that the client's turn came with something to say */
} duet;

static const mp_tls_facts duet_tls = { .version = { "TLSv1.3", 7 }, .cb_exporter = { "0123456789abcdef", 16 } };

/* Fills both sides' options; they may be changed before duet_start. */
static void duet_init(duet *d, mp_protocol protocol, size_t slice)
{
  *d = (duet){ .flights = 0 };
  wire_init(&d->w, protocol, slice);
  cwire_init(&d->c, slice);
  d->c.opts.lmtp = protocol == MP_PROTOCOL_LMTP;
  d->w.opts.extensions = MP_EXT_DEFAULT | MP_EXT_BINARYMIME | MP_EXT_DSN;
  d->w.opts.auth_required = d->w.opts.tls_required = false;
  d->w.opts.tls_offered = true;
  d->w.facts_tls = d->c.facts = duet_tls;
  d->w.secret = "correct horse";
}

__attribute__((unused)) static bool duet_sasl(duet *d, unsigned mechanisms)
{
  d->w.opts.mechanisms = mechanisms;
  d->w.opts.sasl_secret = MP_STR("sixteen octets and more");
  d->w.opts.sasl_iterations = 16;
  if (mp_sasl_ctx_new(&d->ctx) < 0)
    return false;
  d->w.opts.sasl = d->c.opts.sasl = d->ctx;
  return true;
}

/* Until neither has anything to say. */
static void duet_run(duet *d)
{
  bool moved = true;
  while (moved) {
    moved = false;
    cwire_pump(&d->c);
    if (d->c.said.len && !d->w.closed) {
      cwire_text said = d->c.said;
      d->c.said = (cwire_text){ NULL, 0, 0 };
      d->flights++;
      wire_note(&d->asked, said.ptr, said.len);
      wire_feed(&d->w, said.ptr, said.len);
      cwire_clear(&said);
      moved = true;
    }
    if (d->w.said.len && !d->c.closed) {
      wire_text said = d->w.said;
      d->w.said = (wire_text){ NULL, 0, 0 };
      wire_note(&d->heard, said.ptr, said.len);
      cwire_feed(&d->c, said.ptr, said.len);
      wire_clear(&said);
      moved = true;
    }
  }
}

/* Banner and EHLO. */
__attribute__((unused)) static bool duet_start(duet *d)
{
  if (!wire_start(&d->w) || !cwire_start(&d->c, NULL))
    return false;
  duet_run(d);
  if (!d->c.done.ok || mp_client_hello(d->c.cl, d->c.now) < 0)
    return false;
  duet_run(d);
  wire_look(&d->w);
  cwire_clear(&d->c.events);
  return d->c.done.ok;
}

__attribute__((unused)) static bool duet_starttls(duet *d)
{
  if (mp_client_starttls(d->c.cl, d->c.now) < 0)
    return false;
  duet_run(d);
  if (mp_client_tls_done(d->c.cl, &d->c.facts, d->c.now) < 0)
    return false;
  duet_run(d);
  if (mp_client_hello(d->c.cl, d->c.now) < 0)
    return false;
  duet_run(d);
  wire_look(&d->w);
  cwire_clear(&d->c.events);
  return d->c.done.ok;
}

static void duet_look(duet *d)
{
  wire_look(&d->w);
  cwire_clear(&d->c.events);
  wire_clear(&d->heard);
  wire_clear(&d->asked);
  d->flights = 0;
}

static void duet_close(duet *d)
{
  duet_look(d);
  cwire_close(&d->c);
  wire_close(&d->w);
  mp_sasl_ctx_free(d->ctx);
}

#endif
