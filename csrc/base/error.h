/* base/error.h -- one list of errors. Negative ints; the hundreds say whose fault it is:
 * 1xx ours (or the caller's), 2xx the peer's, 3xx the system's. A 550 is not an error: it is a value. */
#ifndef MP_BASE_ERROR_H
#define MP_BASE_ERROR_H

#define MP_ERROR_MAP(X)                                     \
  X(NOMEM, -101, "out of memory")                           \
  X(MISUSE, -102, "call not allowed in this state")         \
  X(FULL, -103, "buffer ceiling reached")                   \
  X(INVALID, -104, "invalid argument")                      \
  X(SYNTAX, -201, "peer broke the grammar")                 \
  X(BARELF, -202, "peer ended a line with a bare LF or CR") \
  X(TOOLONG, -203, "peer sent a line over the limit")       \
  X(CLOSED, -204, "conversation is over")                   \
  X(TLS, -205, "TLS failed")                                \
  X(EOF, -206, "peer closed the connection")                \
  X(TIMEOUT, -207, "peer was silent for too long")          \
  X(CRYPTO, -208, "cryptographic check failed")             \
  X(SYSTEM, -301, "system call failed")                     \
  X(NOSPACE, -302, "no space left on device")               \
  X(EXISTS, -303, "already exists")                         \
  X(NOTFOUND, -304, "not found")                            \
  X(DENIED, -305, "permission denied")                      \
  X(INUSE, -306, "address already in use")                  \
  X(CANCELLED, -307, "cancelled")                           \
  X(IO, -308, "input or output error")                      \
  X(DAMAGED, -309, "stored data is damaged")

enum mp_error {
#define MP_ERROR_ENUM(name, number, text) MP_E_##name = (number),
  MP_ERROR_MAP(MP_ERROR_ENUM)
#undef MP_ERROR_ENUM
};

/* Text for people, static; "unknown error" for a number that is not in the list. */
const char *mp_error_text(int err);

/* "NOMEM", "TLS", ...; static; "UNKNOWN" for a number that is not in the list. */
const char *mp_error_name(int err);

/* The mp_error that fits an errno value (ENOSPC and EDQUOT are NOSPACE, ENOMEM is NOMEM, ...; else SYSTEM). */
int mp_error_errno(int sys);

#endif
