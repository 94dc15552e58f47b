/* conn/message.h -- a complete received message: envelope, trace, header index, octets. Counted; outlives its session. One loop's thread,
 * but that deliveries in the pool read it while the thread leaves it alone. */
#ifndef MP_CONN_MESSAGE_H
#define MP_CONN_MESSAGE_H

#include "conn/body.h"
#include "mail/date.h"
#include "mail/header.h"
#include "mail/received.h"
#include "smtp/envelope.h"

typedef struct mp_message {
  unsigned refs;
  mp_envelope *env;  /* a reference */
  mp_sink *sink;     /* a reference */
  mp_sink *received; /* what came, when `sink` has another body; its header block stays in use. Else NULL */
  struct mp_body_before *before; /* bodies between these two */
  mp_header *header;             /* made at the first look; NULL before */
  size_t header_len; /* octets of the received header block with its empty line; the body starts there */
  char id[24];       /* unique on this host: for Received, logs, %{id} */
  mp_trace trace;    /* strings in `strings` */
  mp_arena strings;
  uint64_t size;       /* octets as received */
  unsigned facts;      /* set of mp_data_fault */
  bool made;           /* of octets that we had: nobody sent it, and it gets no Received field */
  void *user;          /* the floor above keeps its box there */
  unsigned deliveries; /* begun so far: what tells the file names of one message apart */
} mp_message;

/* Takes a reference of each; copies the strings of `trace` (its id and recipient are filled in here). 0 or MP_E_NOMEM. */
int mp_message_new(mp_message **msg, mp_envelope *env, mp_sink *sink, const mp_trace *trace, unsigned facts);
mp_message *mp_message_ref(mp_message *msg);
void mp_message_unref(mp_message *msg);

/* The header index. NULL with *rc MP_E_NOMEM or MP_E_TOOLONG. */
mp_header *mp_message_header(mp_message *msg, int *rc);

/* Another body: a new sink that begins with the received header block, *head_len octets with the empty line (which is added where it came without), for the
 * new body to be put behind. Then rewrite, with a sink that is complete, takes a reference of it; nobody may be reading the message meanwhile. Facts stay:
 * the new body needs no more of its way than the old. 0, MP_E_NOMEM, MP_E_TOOLONG, MP_E_NOSPACE. */
int mp_message_rewriting(mp_message *msg, mp_sink **sink, size_t *head_len);
int mp_message_rewrite(mp_message *msg, mp_sink *sink, size_t head_len);

/* How many Received fields, and how many in all (`fields` may be NULL), without making an index (a scan of the header block). MP_E_TOOLONG, MP_E_NOMEM. */
int mp_message_hops(mp_message *msg, size_t *fields);
/* True when a field "Delivered-To: address" is there: this recipient has had it (loop). */
bool mp_message_delivered_to(mp_message *msg, mp_str address);

/* Appends what stands before the received body: `extra` (fields as whole lines, may be empty), our Received field when `received` (of one that was
 * not made here), the header block as edited, the empty line. 0 or error. */
int mp_message_head(mp_message *msg, mp_str extra, bool received, mp_buf *out);
uint64_t mp_message_body_at(const mp_message *msg); /* offset of the body in the sink */
/* The sink with what was received, whatever body the message has now; the body is behind what mp_sink_header gives of it. */
mp_sink *mp_message_came(mp_message *msg);

/* Message ids: 16 characters, of time, process (its id) and a counter that the caller keeps per worker. */
void mp_message_id(char id[24], int64_t unix_ms, unsigned process, unsigned worker, uint64_t *counter);

#endif
