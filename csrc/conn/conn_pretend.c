/* conn/conn_pretend.c -- TLS by decree, for tests of policies: a session that believes in a handshake nobody did. The service has to be one that
 * pretends, and the binding makes such a service on a virtual loop alone, where there are no sockets. */
#include "conn/conn_impl.h"

#include "base/error.h"

#include <string.h>

struct conn_pretended {
  mp_tls_info info; /* views into `text` */
  mp_str *names;
  char text[];
};

/* The texts of an info, in the order in which they are copied. */
static mp_str *text_at(mp_tls_info *info, size_t index)
{
  mp_str *const texts[] = { &info->version,          &info->cipher,    &info->sni,        &info->peer_subject,
                            &info->peer_fingerprint, &info->cb_unique, &info->cb_exporter };
  return index < sizeof texts / sizeof *texts ? texts[index] : NULL;
}

static mp_str copy(char **at, mp_str text)
{
  if (text.len)
    memcpy(*at, text.ptr, text.len);
  mp_str out = mp_str_of(*at, text.len);
  *at += text.len;
  return out;
}

static conn_pretended *pretended_new(const mp_tls_info *facts)
{
  mp_tls_info info = *facts;
  size_t room = 0;
  for (size_t i = 0; text_at(&info, i); i++)
    room += text_at(&info, i)->len;
  for (size_t i = 0; i < info.peer_name_count; i++)
    room += info.peer_names[i].len;
  conn_pretended *made = mp_mem_alloc(sizeof *made + room);
  mp_str *names = mp_mem_alloc((info.peer_name_count + 1) * sizeof *names);
  if (!made || !names) {
    mp_mem_free(made);
    mp_mem_free(names);
    return NULL;
  }
  char *at = made->text;
  for (size_t i = 0; text_at(&info, i); i++)
    *text_at(&info, i) = copy(&at, *text_at(&info, i));
  for (size_t i = 0; i < info.peer_name_count; i++)
    names[i] = copy(&at, info.peer_names[i]);
  info.peer_names = names;
  made->info = info;
  made->names = names;
  return made;
}

const mp_tls_info *conn_pretended_info(const conn_pretended *pretended)
{
  return &pretended->info;
}

void conn_pretended_free(conn_pretended *pretended)
{
  if (!pretended)
    return;
  mp_mem_free(pretended->names);
  mp_mem_free(pretended);
}

static mp_conn *conn_of(mp_service *service, const mp_stream *stream)
{
  for (mp_list *node = service->conns.next; node != &service->conns; node = node->next) {
    mp_conn *conn = MP_CONTAINER(node, mp_conn, node);
    if (conn->stream == stream)
      return conn;
  }
  return NULL;
}

int mp_conn_pretend_tls(mp_service *service, const mp_stream *stream, const mp_tls_info *facts)
{
  mp_conn *conn = conn_of(service, stream);
  if (!conn || !mp_conn_alive(conn))
    return MP_E_EOF;
  bool due = conn->state == CONN_HANDSHAKE || (conn->state == CONN_TALK && conn->tls_started);
  if (!service->pretend_tls || !due)
    return MP_E_MISUSE;
  conn->pretended = pretended_new(facts);
  if (!conn->pretended)
    return MP_E_NOMEM;
  mp_buf_dispose(&conn->rest);
  conn_tls_ready(conn);
  return 0;
}
