#include "conn/conn_impl.h"
#include "conn/deliver.h"

#include "base/error.h"

#include <sys/random.h>

static void grace_over(mp_timer *timer, int64_t now_ms);
static void begin_stop(mp_service *service, int64_t grace_ms);

int mp_service_new(mp_service **out, mp_worker *worker, const char *hostname, const mp_handler *handler, void *ctx)
{
  mp_service *service = mp_mem_zalloc(sizeof *service);
  if (!service)
    return MP_E_NOMEM;
  service->worker = worker;
  service->handler = handler;
  service->ctx = ctx;
  service->hops = 100;
  service->fields = 5000;
  service->handshake_ms = 30000;
  service->write_most = 262144;
  service->buffers_most = 256u << 20;
  mp_rules_init(&service->rules);
  mp_list_init(&service->ports);
  mp_list_init(&service->conns);
  mp_timer_init(&service->grace, grace_over);
  service->hostname = mp_mem_dup(hostname, strlen(hostname));
  if (!service->hostname ||
      getrandom(service->sasl_secret, sizeof service->sasl_secret, 0) != sizeof service->sasl_secret) {
    mp_mem_free(service->hostname);
    mp_mem_free(service);
    return MP_E_NOMEM;
  }
  /* Its place in the heap is taken now, so that stopping can never fail. */
  if (mp_timers_set(&worker->loop.timers, &service->grace, INT64_MAX) < 0) {
    mp_mem_free(service->hostname);
    mp_mem_free(service);
    return MP_E_NOMEM;
  }
  *out = service;
  return 0;
}

static void port_free(mp_port *port)
{
  mp_mem_free(port->own_proxy.items);
  mp_mem_free(port->priority_profile);
  mp_mem_free(port->name);
  mp_mem_free(port);
}

int mp_port_proxy(mp_port *port, mp_str network)
{
  port->proxy = &port->own_proxy;
  return network.len ? mp_rules_network(&port->service->rules, &port->own_proxy, network) : 0;
}

int mp_service_port(mp_service *service, const char *name, const mp_server_opts *machine, mp_tls_mode tls,
                    mp_port **out)
{
  mp_worker *worker = service->worker;
  mp_port *port = mp_mem_zalloc(sizeof *port);
  mp_str profile = machine->priority_profile;
  if (!port)
    return MP_E_NOMEM;
  port->name = mp_mem_dup(name, strlen(name));
  port->priority_profile = profile.len ? mp_mem_dup(profile.ptr, profile.len) : NULL;
  if (!port->name || (profile.len && !port->priority_profile)) {
    port_free(port);
    return MP_E_NOMEM;
  }
  port->service = service;
  port->proxy = &service->rules.proxy;
  port->machine = *machine;
  port->machine.priority_profile = mp_str_of(port->priority_profile, profile.len);
  port->tls = tls;
  port->machine.hostname = mp_str_c(service->hostname);
  port->machine.banner = mp_str_c(service->banner);
  port->machine.tls_offered = tls == MP_TLS_STARTTLS && (service->tls || service->pretend_tls);
  port->machine.wall_ms = worker->wall_ms(worker) - mp_loop_now(&worker->loop);
  port->machine.sasl = worker->sasl;
  port->machine.sasl_secret = mp_str_of(service->sasl_secret, sizeof service->sasl_secret);
  port->machine.out_blocks = &worker->out_blocks;
  port->machine.envelopes = &worker->envelopes;
  port->machine.envelope_blocks = &worker->envelope_blocks;
  if (mp_server_opts_check(&port->machine)) {
    port_free(port);
    return MP_E_INVALID;
  }
  mp_list_push(&service->ports, &port->node);
  *out = port;
  return 0;
}

void mp_port_crowded(mp_port *port, mp_crowded why, const mp_ip *peer)
{
  mp_service *service = port->service;
  int64_t now = mp_loop_now(&service->worker->loop);
  if (service->stopping || !service->handler->crowded || now < service->quiet_until[why])
    return;
  service->quiet_until[why] = now + MP_CROWDED_MS;
  service->handler->crowded(service->ctx, why, port->name, peer);
}

static void accepted(void *ctx, mp_stream *stream)
{
  if (stream)
    mp_conn_open(ctx, stream);
  else
    mp_port_crowded(ctx, MP_CROWDED_MACHINE, NULL);
}

int mp_port_listen(mp_port *port, const mp_binding *binding)
{
  mp_worker *worker = port->service->worker;
  return mp_listener_open(&port->listener, &worker->loop, binding, worker->number, accepted, port);
}

void mp_port_close(mp_port *port)
{
  if (port->listener)
    mp_listener_close(port->listener);
  port->listener = NULL;
}

void mp_service_free(mp_service *service)
{
  if (!service)
    return;
  while (!mp_list_empty(&service->ports)) {
    mp_port *port = MP_CONTAINER(service->ports.next, mp_port, node);
    mp_port_close(port);
    mp_list_remove(&port->node);
    port_free(port);
  }
  mp_timers_clear(&service->worker->loop.timers, &service->grace);
  mp_rules_dispose(&service->rules);
  mp_tls_config_unref(service->tls);
  mp_mem_wipe(service->sasl_secret, sizeof service->sasl_secret);
  mp_mem_free(service->hostname);
  mp_mem_free(service->banner);
  mp_mem_free(service);
}

/* Deals with each connection there is. What the floor above is told meanwhile may end any other of them. */
static void for_each_conn(mp_service *service, void (*deal)(mp_conn *conn))
{
  mp_list todo;
  mp_list_init(&todo);
  while (!mp_list_empty(&service->conns)) {
    mp_list *node = service->conns.next;
    mp_list_remove(node);
    mp_list_push(&todo, node);
  }
  while (!mp_list_empty(&todo)) {
    mp_list *node = todo.next;
    mp_list_remove(node);
    mp_list_push(&service->conns, node);
    deal(MP_CONTAINER(node, mp_conn, node));
  }
}

static void cut(mp_conn *conn)
{
  mp_service *service = conn->service;
  bool asked = service->final && conn->pending == MP_EV_MESSAGE;
  if (conn->msg && service->final)
    mp_deliver_cancel(conn->msg);
  conn_cut(conn, "service stopped");
  /* A hook that still waits is cancelled; the answer that comes of it lets the connection go. */
  if (asked)
    service->handler->lost(service->ctx, conn, MP_EV_MESSAGE);
}

static void stop(mp_conn *conn)
{
  if (conn->state == CONN_TALK)
    conn_go_on(conn);
  else if (conn->state == CONN_PROXY || conn->state == CONN_HANDSHAKE)
    conn_cut(conn, "service is stopping");
}

static void abandon(mp_conn *conn)
{
  conn->pending = MP_EV_NONE;
  conn->sink_finishing = false;
  conn->user = NULL;
  if (conn->sink)
    mp_sink_on_ready(conn->sink, NULL, NULL);
  conn_cut(conn, "service is gone");
  conn_check_gone(conn);
}

static void grace_over(mp_timer *timer, int64_t now_ms)
{
  (void)now_ms;
  mp_service *service = MP_CONTAINER(timer, mp_service, grace);
  mp_timers_set(&service->worker->loop.timers, timer, INT64_MAX); /* the place it has just left is free */
  if (service->conn_count == 0) {
    service->handler->stopped(service->ctx);
    mp_service_free(service);
    return;
  }
  if (service->retiring && !service->stopping) {
    begin_stop(service, CONN_LINGER_MS);
    return;
  }
  /* Time is up: the rest is cut. A message whose disposition runs keeps its connection's struct, and so the service, until it is done; behind a
   * generation that serves on it may take its time. */
  for_each_conn(service, cut);
}

void mp_service_retire(mp_service *service, int64_t grace_ms)
{
  mp_worker *worker = service->worker;
  if (service->stopping)
    return;
  service->retiring = true;
  for (mp_list *node = service->ports.next; node != &service->ports; node = node->next)
    mp_port_close(MP_CONTAINER(node, mp_port, node));
  mp_timers_set(&worker->loop.timers, &service->grace,
                service->conn_count ? mp_loop_now(&worker->loop) + grace_ms : 0);
}

static void begin_stop(mp_service *service, int64_t grace_ms)
{
  mp_worker *worker = service->worker;
  if (service->stopping) { /* it may only hurry */
    int64_t due = mp_loop_now(&worker->loop) + grace_ms;
    if (!service->grace.slot || due < service->grace.due_ms)
      mp_timers_set(&worker->loop.timers, &service->grace, due);
    return;
  }
  service->stopping = true;
  for (mp_list *node = service->ports.next; node != &service->ports; node = node->next)
    mp_port_close(MP_CONTAINER(node, mp_port, node));
  for_each_conn(service, stop);
  mp_timers_set(&worker->loop.timers, &service->grace,
                service->conn_count ? mp_loop_now(&worker->loop) + grace_ms : 0);
}

void mp_service_stop(mp_service *service, int64_t grace_ms)
{
  service->final = true;
  begin_stop(service, grace_ms);
}

void mp_service_kill(mp_service *service, const mp_handler *silent)
{
  service->handler = silent;
  service->hooks = 0;
  mp_service_stop(service, 0);
  for_each_conn(service, abandon);
}
