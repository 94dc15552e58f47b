#include "bind/process.h"

#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

enum { NAME_MOST = 255, SECRET_MOST = 1024 };

struct mpl_once {
  struct mpl_once *next;
  size_t len;
  char name[];
};

int mpl_process_new(mpl_process **out)
{
  mpl_process *process = mp_mem_zalloc(sizeof *process);
  if (!process)
    return MP_E_NOMEM;
  atomic_init(&process->refs, 1);
  pthread_mutex_init(&process->lock, NULL);
  if (mp_gate_new(&process->gate) < 0 || mp_shared_set_new(&process->tables) < 0) {
    mpl_process_unref(process);
    return MP_E_NOMEM;
  }
  *out = process;
  return 0;
}

mpl_process *mpl_process_ref(mpl_process *process)
{
  atomic_fetch_add(&process->refs, 1);
  return process;
}

void mpl_process_unref(mpl_process *process)
{
  if (!process || atomic_fetch_sub(&process->refs, 1) != 1)
    return;
  while (process->done) {
    struct mpl_once *once = process->done;
    process->done = once->next;
    mp_mem_free(once);
  }
  mp_gate_unref(process->gate);
  mp_shared_set_unref(process->tables);
  pthread_mutex_destroy(&process->lock);
  mp_mem_free(process);
}

mpl_process *mpl_process_of(lua_State *L)
{
  mpl_state *state = mpl_state_of(L);
  if (!state->process && mpl_process_new(&state->process) < 0)
    luaL_error(L, "out of memory");
  return state->process;
}

static struct mpl_once **find(mpl_process *process, mp_str name)
{
  struct mpl_once **at = &process->done;
  while (*at && !mp_str_eq(mp_str_of((*at)->name, (*at)->len), name))
    at = &(*at)->next;
  return at;
}

/* once(name): true for the first who asks. once(name, true): it did not happen after all. */
static int core_once(lua_State *L)
{
  mpl_process *process = mpl_process_of(L);
  mp_str name = mpl_check_str(L, 1);
  luaL_argcheck(L, name.len > 0 && name.len <= NAME_MOST, 1, "a name of 1 to 255 octets");
  bool release = lua_toboolean(L, 2), first = false;
  struct mpl_once *fresh = release ? NULL : mp_mem_alloc(sizeof *fresh + name.len);
  if (!release && !fresh)
    return luaL_error(L, "out of memory");
  pthread_mutex_lock(&process->lock);
  struct mpl_once **at = find(process, name), *old = *at;
  if (release && old) {
    *at = old->next;
  } else if (!release && !old) {
    fresh->next = NULL;
    fresh->len = name.len;
    memcpy(fresh->name, name.ptr, name.len);
    *at = fresh;
    first = true;
  }
  pthread_mutex_unlock(&process->lock);
  mp_mem_free(release ? old : first ? NULL : fresh);
  lua_pushboolean(L, first);
  return 1;
}

static int core_drop_privileges(lua_State *L)
{
  char why[256] = "";
  int rc = mp_drop_privileges(luaL_checkstring(L, 1), luaL_optstring(L, 2, NULL), why, sizeof why);
  if (rc < 0)
    return mpl_fail(L, rc, why);
  lua_pushboolean(L, 1);
  return 1;
}

/* One line from the terminal, not shown while it is typed. The number of octets, or -1 when there is no terminal. */
static ssize_t read_hidden(const char *prompt, char *room, size_t size)
{
  int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);
  struct termios shown, hidden;
  if (fd < 0)
    return -1;
  if (tcgetattr(fd, &shown) != 0) {
    close(fd);
    return -1;
  }
  hidden = shown;
  hidden.c_lflag &= ~(tcflag_t)ECHO;
  hidden.c_lflag |= ECHONL;
  ssize_t told = write(fd, prompt, strlen(prompt)), got = 0;
  tcsetattr(fd, TCSAFLUSH, &hidden);
  if (told >= 0)
    do
      got = read(fd, room, size);
    while (got < 0 && errno == EINTR);
  tcsetattr(fd, TCSAFLUSH, &shown);
  close(fd);
  return got < 0 ? -1 : got;
}

static int core_read_secret(lua_State *L)
{
  char line[SECRET_MOST];
  if (!isatty(STDIN_FILENO)) {
    lua_pushboolean(L, 0);
    return 1;
  }
  ssize_t got = read_hidden(luaL_checkstring(L, 1), line, sizeof line);
  if (got < 0)
    return mpl_fail(L, MP_E_SYSTEM, "there is no terminal to ask");
  size_t len = (size_t)got;
  while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
    len--;
  lua_pushlstring(L, line, len);
  mp_mem_wipe(line, sizeof line);
  return 1;
}

int mpl_open_process(lua_State *L)
{
  static const luaL_Reg functions[] = {
    { "once", core_once },
    { "drop_privileges", core_drop_privileges },
    { "read_secret", core_read_secret },
    { NULL, NULL },
  };
  luaL_setfuncs(L, functions, 0);
  return 0;
}
