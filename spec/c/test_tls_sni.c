/* Which certificate a name gets. */
#include "support/tls_peer.h"

#include "tls/sni.h"

TEST(host_names)
{
  static const char *const good[] = {
    "a", "mx.example.org", "MX.Example.ORG.", "_dmarc.x-y.z", "xn--bcher-kva.example", "1.2.3.4"
  };
  static const char *const bad[] = { "",      ".",   "a..b", ".a",  "a b",       "a\nb",
                                     "a\x80", "*.a", "a/b",  "::1", "a\xc3\xa9", "a.." };
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    CHECK(mp_tls_hostname(mp_str_c(good[i])) || FAIL("%s", good[i]));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    CHECK(!mp_tls_hostname(mp_str_c(bad[i])) || FAIL("%s", bad[i]));
  CHECK(!mp_tls_hostname(mp_str_of("a\0b", 3)));
  char label[260];
  memset(label, 'a', sizeof label);
  CHECK(mp_tls_hostname(mp_str_of(label, 63)));
  CHECK(!mp_tls_hostname(mp_str_of(label, 64)));
  for (size_t i = 60; i < sizeof label; i += 61)
    label[i] = '.';
  CHECK(mp_tls_hostname(mp_str_of(label, 253)));
  CHECK(!mp_tls_hostname(mp_str_of(label, 254)));
}

TEST(the_exact_name_goes_before_a_wildcard_of_one_label)
{
  mp_tls_names names = { 0 };
  static const char *const list[] = { "example.org", "*.example.org", "mx.example.org", "*.org",
                                      "MX.example.ORG." };
  for (size_t i = 0; i < sizeof list / sizeof *list; i++)
    CHECK_EQ_INT(mp_tls_names_add(&names, mp_str_c(list[i]), i), 0);
  CHECK_EQ_INT(mp_tls_names_add(&names, MP_STR("not a name"), 9), 0);
  CHECK_EQ_INT(mp_tls_names_add(&names, MP_STR("*"), 9), 0);
  CHECK_EQ_INT(mp_tls_names_add(&names, MP_STR("a.*.org"), 9), 0);
  CHECK_EQ_INT(mp_tls_names_add(&names, MP_STR("mx*.example.net"), 9), 0);
  mp_tls_names_done(&names);
  CHECK_EQ_INT(names.count, 4);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("example.org")), 0);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("EXAMPLE.org.")), 0);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("a.example.org")), 1);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("mx.example.org")), 2); /* the first that named it */
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("other.org")), 3);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("a.b.example.org")), -1);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("org")), -1);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("*.example.org")), -1);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("")), -1);
  mp_tls_names_dispose(&names);
  CHECK_EQ_INT(mp_tls_names_find(&names, MP_STR("example.org")), -1);
}

/* The common name of the certificate that a client sees; "" when the handshake failed. */
static const char *seen_by(mp_tls_config *config, peer_opts opts, mp_str *sni)
{
  static char name[128], sent[256];
  peer client;
  mp_tls *tls;
  mp_tls_info info;
  name[0] = '\0';
  peer_init(&client, opts);
  if (mp_tls_accept(&tls, config, NULL) < 0)
    return name;
  if (CHECK_EQ_INT(peer_handshake(&client, tls, 65536), 1)) {
    X509_NAME_get_text_by_NID(X509_get_subject_name(SSL_get0_peer_certificate(client.ssl)), NID_commonName,
                              name, sizeof name);
    mp_tls_info_get(tls, &info);
    memcpy(sent, info.sni.ptr ? info.sni.ptr : "", info.sni.len);
    *sni = mp_str_of(sent, info.sni.len);
  }
  mp_tls_free(tls);
  peer_dispose(&client);
  return name;
}

TEST(each_name_gets_its_certificate_and_a_stranger_the_first)
{
  mp_tls_cert certs[] = {
    peer_pair("one", &(peer_cert){ .cn = "one", .san = "DNS:mx.example.org,IP:192.0.2.1" }),
    peer_pair("two", &(peer_cert){ .cn = "two", .san = "DNS:example.net,DNS:*.example.net" }),
    peer_pair("three", &(peer_cert){ .cn = "three.example.com" }),
    peer_pair("four", &(peer_cert){ .cn = "four", .san = "DNS:hidden.example" }),
  };
  certs[3].name = "*.four.example";
  mp_tls_config *config = peer_config((mp_tls_opts){ .certs = certs, .cert_count = 4 });
  static const struct {
    const char *sni, *cn;
  } rows[] = {
    { NULL, "one" },
    { "mx.example.org", "one" },
    { "example.net", "two" },
    { "MX.Example.NET", "two" },
    { "three.example.com", "three.example.com" },
    { "a.four.example", "four" },
    { "hidden.example", "one" }, /* a name that is given stands for those in the certificate */
    { "two", "one" }, /* with alternative names the common name counts for nothing (RFC 6125 section 6.4.4) */
    { "unknown.example", "one" },
  };
  REQUIRE(config);
  for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
      mp_str sni;
      const char *cn = seen_by(config, (peer_opts){ .sni = rows[i].sni, .max = version }, &sni);
      CHECK_EQ_STR(mp_str_c(cn), mp_str_c(rows[i].cn));
      CHECK_EQ_STR(sni, mp_str_c(rows[i].sni));
    }
  }
  mp_tls_config_unref(config);
}

TEST(what_is_no_host_name_is_not_handed_on)
{
  mp_tls_config *config = peer_config((mp_tls_opts){ 0 });
  static const char *const names[] = { "a b", "mx.example.org\r\nX: y", "\x1b[31m", "a..b", "\xff\xfe" };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    mp_str sni;
    CHECK_EQ_STR(mp_str_c(seen_by(config, (peer_opts){ .sni = names[i] }, &sni)), MP_STR("mx.example.org"));
    CHECK_EQ_INT(sni.len, 0);
  }
  mp_tls_config_unref(config);
}

TEST(rsa_and_ecdsa_for_one_name_serve_each_client_its_own)
{
  mp_tls_cert certs[] = {
    peer_pair("ec", &(peer_cert){ .cn = "ec", .san = "DNS:mx.example.org" }),
    peer_pair("rsa", &(peer_cert){ .cn = "rsa", .san = "DNS:mx.example.org", .rsa = true }),
    peer_pair("ec2", &(peer_cert){ .cn = "ec2", .san = "DNS:mx.example.org" }), /* one too many: never served */
  };
  mp_tls_config *config = peer_config((mp_tls_opts){ .certs = certs, .cert_count = 3 });
  mp_str sni;
  REQUIRE(config);
  CHECK_CSTR(seen_by(config, (peer_opts){ .sni = "mx.example.org" }, &sni), "ec");
  CHECK_CSTR(
      seen_by(config, (peer_opts){ .sni = "mx.example.org", .max = TLS1_2_VERSION, .ciphers = "aRSA" }, &sni),
      "rsa");
  CHECK_CSTR(seen_by(config, (peer_opts){ .max = TLS1_2_VERSION, .ciphers = "aECDSA" }, &sni), "ec");
  mp_tls_config_unref(config);
}

CHECK_MAIN
