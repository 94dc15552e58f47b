#include "smtp/sasl_client.h"

#include "base/base64.h"
#include "base/list.h"
#include "smtp/sasl_impl.h"
#include "smtp/text.h"

enum { TOKEN_MOST = 8192, HOST_MOST = 255, RESPONSE_MOST = 9216, CHALLENGE_MOST = 9216 };

/* The SaltedPassword of SCRAM. It owns all that it touches. */
typedef struct work {
  mp_job job;
  mp_scram_hash hash;
  unsigned iterations;
  size_t salt_len;
  int rc;
  bool ran;
  mp_secret password;
  char salt[MP_SCRAM_SALT_MAX];
  char salted[MP_SCRAM_KEY_MAX];
} work;

struct mp_sasl_client {
  mp_sasl_ctx *ctx;
  const mp_client_login *login;
  mp_mech mech;
  unsigned phase; /* messages that were said */
  bool proved;
  Gsasl_session *session;
  mp_secret response;
  mp_secret challenge; /* SCRAM: server-first, until the keys are there */
  mp_job *lent;        /* an identity, never followed */
  work *work;
};

#define BIT(name) (1u << MP_MECH_##name)
enum {
  BEARERS = BIT(XOAUTH2) | BIT(OAUTHBEARER),
  SCRAMS = BIT(SCRAM_SHA_1) | BIT(SCRAM_SHA_1_PLUS) | BIT(SCRAM_SHA_256) | BIT(SCRAM_SHA_256_PLUS),
  PLUS = BIT(SCRAM_SHA_1_PLUS) | BIT(SCRAM_SHA_256_PLUS)
};

static bool is(const mp_sasl_client *client, unsigned set)
{
  return (set & 1u << client->mech) != 0;
}

static mp_scram_hash hash_of(const mp_sasl_client *client)
{
  return is(client, BIT(SCRAM_SHA_1) | BIT(SCRAM_SHA_1_PLUS)) ? MP_SCRAM_SHA_1 : MP_SCRAM_SHA_256;
}

/* ---- what is asked for -------------------------------------------------------------------------------------------- */

const char *mp_sasl_login_check(const mp_client_login *login)
{
  if (login->user.len > MP_SASL_NAME_MAX || !mp_text_printable(login->user, true))
    return "the user's name is over 255 octets, not UTF-8, or holds a control character";
  if (login->authzid.len > MP_SASL_NAME_MAX || !mp_text_printable(login->authzid, true))
    return "the identity to act as is over 255 octets, not UTF-8, or holds a control character";
  if (login->password.len > MP_SASL_PASSWORD_MAX || mp_str_find(login->password, '\0', 0) >= 0)
    return "the password is over 1,024 octets or holds NUL";
  if (login->token.len > TOKEN_MOST || !mp_text_printable(login->token, false) ||
      mp_str_find(login->token, ' ', 0) >= 0)
    return "the token is over 8,192 octets, or holds more than printable ASCII";
  if (login->host.len > HOST_MOST || !mp_text_printable(login->host, false))
    return "the host is over 255 octets, or holds more than printable ASCII";
  if (login->iterations_max > MP_SCRAM_ITERATIONS_MAX)
    return "iterations_max is over 1,000,000";
  return NULL;
}

unsigned mp_sasl_login_serves(const mp_client_login *login)
{
  unsigned set = 0;
  bool named = login->user.len > 0;
  if (named && login->password.len)
    set |= BIT(PLAIN) | SCRAMS | (login->authzid.len ? 0u : BIT(LOGIN) | BIT(CRAM_MD5));
  if (login->token.len)
    set |= BIT(OAUTHBEARER) | (named && !login->authzid.len ? BIT(XOAUTH2) : 0u);
  return login->mechanisms ? set & login->mechanisms : set;
}

int mp_sasl_client_new(mp_sasl_client **out, mp_sasl_ctx *ctx, mp_mech mech, const mp_client_login *login,
                       mp_str unique, mp_str exporter)
{
  *out = NULL;
  bool plus = PLUS & 1u << mech, theirs = (SCRAMS | BIT(CRAM_MD5)) & 1u << mech;
  if ((theirs && !ctx) || (plus && unique.len == 0 && exporter.len == 0) ||
      unique.len > MP_SASL_BINDING_MAX || exporter.len > MP_SASL_BINDING_MAX)
    return MP_E_INVALID;
  mp_sasl_client *client = mp_mem_zalloc(sizeof *client);
  if (!client)
    return MP_E_NOMEM;
  client->ctx = ctx;
  client->login = login;
  client->mech = mech;
  client->proved = !is(client, SCRAMS);
  int rc = theirs ? mp_sasl_gs_start(ctx, mp_mech_name(mech), true, &client->session) : 0;
  if (rc == 0 && theirs)
    rc = mp_sasl_gs_set(client->session, GSASL_AUTHID, login->user);
  if (rc == 0 && theirs && login->authzid.len)
    rc = mp_sasl_gs_set(client->session, GSASL_AUTHZID, login->authzid);
  if (rc == 0 && is(client, BIT(CRAM_MD5)))
    rc = mp_sasl_gs_set(client->session, GSASL_PASSWORD, login->password);
  /* tls-unique is what peers know that speak TLS 1.2; with TLS 1.3 there is none, and tls-exporter is meant (RFC 9266). */
  if (rc == 0 && plus)
    rc = unique.len ? mp_sasl_gs_set64(client->session, GSASL_CB_TLS_UNIQUE, unique)
                    : mp_sasl_gs_set64(client->session, GSASL_CB_TLS_EXPORTER, exporter);
  if (rc < 0) {
    mp_sasl_client_free(client);
    return rc;
  }
  *out = client;
  return 0;
}

static void discard(mp_job *job)
{
  work *w = MP_CONTAINER(job, work, job);
  mp_secret_wipe(&w->password);
  mp_mem_wipe(w, sizeof *w);
  mp_mem_free(w);
}

void mp_sasl_client_free(mp_sasl_client *client)
{
  if (!client)
    return;
  mp_sasl_gs_finish(client->session);
  mp_secret_wipe(&client->response);
  mp_secret_wipe(&client->challenge);
  if (client->work)
    discard(&client->work->job);
  mp_mem_free(client);
}

mp_str mp_sasl_client_response(const mp_sasl_client *client)
{
  return mp_secret_view(&client->response);
}

bool mp_sasl_client_proved(const mp_sasl_client *client)
{
  return client->proved;
}

/* ---- messages of our own ------------------------------------------------------------------------------------------ */

/* Room that no growing leaves copies behind. */
static int respond_with(mp_sasl_client *client, const mp_str *parts, size_t count)
{
  size_t len = 0;
  for (size_t i = 0; i < count; i++)
    len += parts[i].len;
  char *block = mp_mem_alloc(len + 1);
  if (!block)
    return MP_E_NOMEM;
  size_t at = 0;
  for (size_t i = 0; i < count; i++) {
    if (parts[i].len)
      memcpy(block + at, parts[i].ptr, parts[i].len);
    at += parts[i].len;
  }
  block[len] = '\0';
  mp_secret_wipe(&client->response);
  client->response = (mp_secret){ block, len };
  return MP_SASL_MOVE_SAY;
}

static int respond(mp_sasl_client *client, mp_str text)
{
  return respond_with(client, &text, 1);
}

/* A name in a GS2 head (RFC 5801 4). */
static size_t saslname(char out[3 * MP_SASL_NAME_MAX], mp_str name)
{
  size_t n = 0;
  for (size_t i = 0; i < name.len; i++) {
    char c = name.ptr[i];
    if (c == ',' || c == '=') {
      memcpy(out + n, c == ',' ? "=2C" : "=3D", 3);
      n += 3;
    } else {
      out[n++] = c;
    }
  }
  return n;
}

static int say_bearer(mp_sasl_client *client)
{
  const mp_client_login *l = client->login;
  if (client->mech == MP_MECH_XOAUTH2) {
    const mp_str parts[] = { MP_STR("user="), l->user, MP_STR("\1auth=Bearer "), l->token, MP_STR("\1\1") };
    return respond_with(client, parts, sizeof parts / sizeof *parts);
  }
  char name[3 * MP_SASL_NAME_MAX], port[16];
  mp_str who = l->authzid.len ? l->authzid : l->user;
  mp_buf number;
  mp_buf_init(&number, sizeof port, NULL);
  if (l->port && mp_buf_fmt(&number, "\1port=%u", l->port) < 0)
    return MP_E_NOMEM;
  const mp_str parts[] = { who.len ? MP_STR("n,a=") : MP_STR("n,"),
                           mp_str_of(name, saslname(name, who)),
                           MP_STR(","),
                           l->host.len ? MP_STR("\1host=") : MP_STR_NULL,
                           l->host,
                           mp_buf_view(&number),
                           MP_STR("\1auth=Bearer "),
                           l->token,
                           MP_STR("\1\1") };
  int move = respond_with(client, parts, sizeof parts / sizeof *parts);
  mp_buf_dispose(&number);
  return move;
}

static int say_plain(mp_sasl_client *client)
{
  const mp_client_login *l = client->login;
  const mp_str nul = { "", 1 }, parts[] = { l->authzid, nul, l->user, nul, l->password };
  return respond_with(client, parts, sizeof parts / sizeof *parts);
}

/* ---- libgsasl's --------------------------------------------------------------------------------------------------- */

static int gs_step(mp_sasl_client *client, mp_str input, int *answer)
{
  mp_secret_wipe(&client->response);
  int rc = mp_sasl_gs_step(client->session, input, &client->response, answer);
  return rc < 0                                               ? rc
         : *answer == GSASL_OK || *answer == GSASL_NEEDS_MORE ? MP_SASL_MOVE_SAY
                                                              : MP_SASL_MOVE_GIVE_UP;
}

static void derive(mp_job *job)
{
  work *w = MP_CONTAINER(job, work, job);
  w->rc = mp_scram_salted(w->salted, w->hash, mp_secret_view(&w->password), mp_str_of(w->salt, w->salt_len),
                          w->iterations);
  w->ran = true;
}

/* Takes "k=value" and the comma behind it off the front. */
static bool attribute(mp_str *rest, char key, mp_str *value)
{
  if (rest->len < 2 || rest->ptr[0] != key || rest->ptr[1] != '=')
    return false;
  mp_ssize comma = mp_str_find(*rest, ',', 0);
  size_t end = comma < 0 ? rest->len : (size_t)comma;
  *value = mp_str_sub(*rest, 2, end - 2);
  *rest = mp_str_sub(*rest, end + 1, rest->len);
  return true;
}

/* server-first = "r=" nonce ",s=" salt ",i=" count ["," extensions] (RFC 5802 7). What it costs is the server's wish, and bounded. */
static int server_first(mp_sasl_client *client, mp_str input)
{
  mp_str rest = input, nonce, salt, count;
  uint64_t iterations;
  unsigned most = client->login->iterations_max ? client->login->iterations_max : MP_SCRAM_ITERATIONS_MAX;
  if (input.len > MP_SASL_SCRAM_MAX || mp_str_find(input, '\0', 0) >= 0 || !attribute(&rest, 'r', &nonce) ||
      !attribute(&rest, 's', &salt) || !attribute(&rest, 'i', &count) ||
      !mp_str_u64(count, most, &iterations) || iterations == 0)
    return MP_SASL_MOVE_GIVE_UP;
  work *w = mp_mem_zalloc(sizeof *w);
  if (!w)
    return MP_E_NOMEM;
  w->job = (mp_job){ .run = derive, .free = discard };
  mp_buf octets;
  mp_buf_init(&octets, sizeof w->salt, NULL);
  int rc = mp_base64_decode(&octets, salt);
  if (rc == 0 && octets.len) {
    w->hash = hash_of(client);
    w->iterations = (unsigned)iterations;
    w->salt_len = octets.len;
    memcpy(w->salt, mp_buf_view(&octets).ptr, octets.len);
    rc = mp_secret_set(&w->password, client->login->password);
  } else if (rc != MP_E_NOMEM) {
    rc = MP_SASL_MOVE_GIVE_UP;
  }
  mp_buf_dispose(&octets);
  if (rc == 0)
    rc = mp_secret_set(&client->challenge, input);
  if (rc != 0) {
    discard(&w->job);
    return rc;
  }
  client->work = w;
  return MP_SASL_MOVE_JOB;
}

mp_job *mp_sasl_client_job(mp_sasl_client *client)
{
  work *w = client->work;
  client->work = NULL;
  client->lent = w ? &w->job : NULL;
  return client->lent;
}

int mp_sasl_client_worked(mp_sasl_client *client, mp_job *job)
{
  if (!job || job != client->lent)
    return MP_E_MISUSE;
  client->lent = NULL;
  work *w = MP_CONTAINER(job, work, job);
  static const char digits[] = "0123456789abcdef";
  char hex[2 * MP_SCRAM_KEY_MAX];
  size_t len = w->hash == MP_SCRAM_SHA_1 ? 20 : MP_SCRAM_KEY_MAX;
  int rc = !w->ran ? MP_SASL_MOVE_GIVE_UP : w->rc == MP_E_INVALID ? MP_SASL_MOVE_GIVE_UP : w->rc;
  for (size_t i = 0; i < len; i++) {
    hex[2 * i] = digits[(unsigned char)w->salted[i] >> 4];
    hex[2 * i + 1] = digits[w->salted[i] & 15];
  }
  discard(job);
  if (rc == 0)
    rc = mp_sasl_gs_set(client->session, GSASL_SCRAM_SALTED_PASSWORD, mp_str_of(hex, 2 * len));
  mp_mem_wipe(hex, sizeof hex);
  int answer;
  if (rc == 0)
    rc = gs_step(client, mp_secret_view(&client->challenge), &answer);
  if (rc == MP_SASL_MOVE_SAY)
    client->phase++;
  return rc;
}

/* ---- the exchange ------------------------------------------------------------------------------------------------- */

int mp_sasl_client_start(mp_sasl_client *client)
{
  int answer;
  client->phase = 1;
  switch (client->mech) {
  case MP_MECH_PLAIN:
    return say_plain(client);
  case MP_MECH_XOAUTH2:
  case MP_MECH_OAUTHBEARER:
    return say_bearer(client);
  case MP_MECH_LOGIN:
  case MP_MECH_CRAM_MD5:
    return MP_SASL_MOVE_WAIT;
  default:
    return gs_step(client, MP_STR_NULL, &answer);
  }
}

static int scram_step(mp_sasl_client *client, mp_str input)
{
  if (client->phase == 1)
    return server_first(client, input);
  if (client->phase != 2 || client->proved)
    return MP_SASL_MOVE_GIVE_UP;
  int answer, move = gs_step(client, input, &answer);
  if (move < 0)
    return move;
  client->proved = answer == GSASL_OK;
  return client->proved ? respond(client, MP_STR_NULL) : MP_SASL_MOVE_FRAUD;
}

int mp_sasl_client_step(mp_sasl_client *client, mp_str challenge)
{
  const mp_client_login *l = client->login;
  if (client->mech == MP_MECH_LOGIN) /* what is asked for is always the same, in whatever words */
    return client->phase++ == 1 ? respond(client, l->user)
           : client->phase == 3 ? respond(client, l->password)
                                : MP_SASL_MOVE_GIVE_UP;
  if (is(client, BEARERS)) /* a refusal, told in JSON; what ends it is a message that says nothing (RFC 7628 3.2.3) */
    return client->phase++ == 1 ? respond(client, is(client, BIT(XOAUTH2)) ? MP_STR_NULL : MP_STR("\1"))
                                : MP_SASL_MOVE_GIVE_UP;
  if (client->mech == MP_MECH_PLAIN)
    return MP_SASL_MOVE_GIVE_UP;
  mp_buf octets;
  mp_buf_init(&octets, CHALLENGE_MOST, NULL);
  int move = mp_base64_decode(&octets, challenge), answer;
  if (move < 0)
    move = move == MP_E_NOMEM ? move : (int)MP_SASL_MOVE_GIVE_UP;
  else if (client->mech != MP_MECH_CRAM_MD5)
    move = scram_step(client, mp_buf_view(&octets));
  else
    move = client->phase++ == 1 && octets.len ? gs_step(client, mp_buf_view(&octets), &answer)
                                              : (int)MP_SASL_MOVE_GIVE_UP;
  mp_buf_dispose(&octets);
  return move;
}
