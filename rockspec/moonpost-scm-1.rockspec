rockspec_format = "3.0"
package = "moonpost"
version = "scm-1"
source = {
  url = "git+https://github.com/moonpost/moonpost.git",
}
description = {
  summary = "An SMTP engine you script in Lua",
  detailed = [[
A C core speaks SMTP and LMTP over TLS and libuv; a Lua module hands every decision to a script: who may talk, which
recipients exist, what a message must look like, where it goes. Needs libuv, OpenSSL 3, libgsasl, libcrypt, libunbound,
libidn2, libpsl, zlib, libcurl, GMime 3, libexpat and SQLite with their headers, and CMake.]],
  license = "MIT",
}
dependencies = {
  "lua >= 5.4, < 5.5",
}
external_dependencies = {
  LIBUV = { header = "uv.h" },
  OPENSSL = { header = "openssl/ssl.h" },
  GSASL = { header = "gsasl.h" },
  CRYPT = { header = "crypt.h" },
  UNBOUND = { header = "unbound.h" },
  IDN2 = { header = "idn2.h" },
  PSL = { header = "libpsl.h" },
  ZLIB = { header = "zlib.h" },
    EXPAT = { header = "expat.h" },
  SQLITE = { header = "sqlite3.h" },
  -- libcurl and GMime too, whose headers Debian keeps where luarocks does not look: CMake asks for them.
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "Release",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    LUA_INCDIR = "$(LUA_INCDIR)",
    MOONPOST_INSTALL_LUADIR = "$(LUADIR)",
    MOONPOST_INSTALL_LIBDIR = "$(LIBDIR)",
  },
  install = {
    bin = { moonpost = "lua/moonpost/cli.lua" },
  },
}
