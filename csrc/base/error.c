#include "base/error.h"

#include <errno.h>

const char *mp_error_text(int err)
{
  switch (err) {
#define MP_ERROR_TEXT(name, number, text) \
  case number:                            \
    return text;
    MP_ERROR_MAP(MP_ERROR_TEXT)
#undef MP_ERROR_TEXT
  default:
    return "unknown error";
  }
}

const char *mp_error_name(int err)
{
  switch (err) {
#define MP_ERROR_NAME(name, number, text) \
  case number:                            \
    return #name;
    MP_ERROR_MAP(MP_ERROR_NAME)
#undef MP_ERROR_NAME
  default:
    return "UNKNOWN";
  }
}

int mp_error_errno(int sys)
{
  switch (sys) {
  case ENOMEM:
    return MP_E_NOMEM;
  case ENOSPC:
  case EDQUOT:
  case EFBIG:
    return MP_E_NOSPACE;
  case EEXIST:
    return MP_E_EXISTS;
  case ENOENT:
  case ENOTDIR:
    return MP_E_NOTFOUND;
  case EACCES:
  case EPERM:
  case EROFS:
    return MP_E_DENIED;
  case EADDRINUSE:
    return MP_E_INUSE;
  case ECANCELED:
    return MP_E_CANCELLED;
  default:
    return MP_E_SYSTEM;
  }
}
