#include "net/listen.h"

#include "base/error.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

enum { ENTRY_ROOM = 16384, NAME_ROOM = 256 };

typedef struct identity {
  uid_t uid;
  gid_t gid;
  bool has_gid;
  char name[NAME_ROOM]; /* of the user, for the supplementary groups; "" when there is no entry */
} identity;

static bool number(const char *text, uint64_t *out)
{
  return mp_str_u64(mp_str_c(text), UINT32_MAX - 1, out); /* the last is the "leave it" of setresuid */
}

static bool find_user(const char *user, char *room, identity *id)
{
  struct passwd entry, *found = NULL;
  uint64_t n = 0;
  bool numeric = number(user, &n);
  if (numeric)
    getpwuid_r((uid_t)n, &entry, room, ENTRY_ROOM, &found);
  else
    getpwnam_r(user, &entry, room, ENTRY_ROOM, &found);
  if (!found) {
    id->uid = (uid_t)n;
    return numeric;
  }
  id->uid = found->pw_uid;
  id->gid = found->pw_gid;
  id->has_gid = true;
  snprintf(id->name, sizeof id->name, "%s", found->pw_name);
  return true;
}

static bool find_group(const char *group, char *room, identity *id)
{
  struct group entry, *found = NULL;
  uint64_t n;
  if (number(group, &n)) {
    id->gid = (gid_t)n;
    id->has_gid = true;
    return true;
  }
  getgrnam_r(group, &entry, room, ENTRY_ROOM, &found);
  if (!found)
    return false;
  id->gid = found->gr_gid;
  id->has_gid = true;
  return true;
}

static bool is_already(const identity *id)
{
  uid_t ruid, euid, suid;
  gid_t rgid, egid, sgid;
  return getresuid(&ruid, &euid, &suid) == 0 && getresgid(&rgid, &egid, &sgid) == 0 && ruid == id->uid &&
         euid == id->uid && suid == id->uid && rgid == id->gid && egid == id->gid && sgid == id->gid;
}

/* The order matters: without root neither groups nor gid can be changed any more. */
static bool become(const identity *id)
{
  if ((id->name[0] ? initgroups(id->name, id->gid) : setgroups(1, &id->gid)) != 0)
    return false;
  return setresgid(id->gid, id->gid, id->gid) == 0 && setresuid(id->uid, id->uid, id->uid) == 0;
}

int mp_drop_privileges(const char *user, const char *group, char *why, size_t room)
{
  identity id = { 0 };
  char *entry = mp_mem_alloc(ENTRY_ROOM);
  if (!entry) {
    snprintf(why, room, "user %s: %s", user, mp_error_text(MP_E_NOMEM));
    return MP_E_NOMEM;
  }
  bool user_ok = find_user(user, entry, &id);
  bool group_ok = !group || find_group(group, entry, &id);
  mp_mem_free(entry);
  if (!user_ok) {
    snprintf(why, room, "user %s: there is no such user", user);
    return MP_E_NOTFOUND;
  }
  if (!group_ok) {
    snprintf(why, room, "group %s: there is no such group", group);
    return MP_E_NOTFOUND;
  }
  if (!id.has_gid) {
    snprintf(why, room, "user %s: has no entry that names a group; say which one", user);
    return MP_E_NOTFOUND;
  }
  if (id.uid == 0) {
    snprintf(why, room, "user %s: is root, nothing would be given up", user);
    return MP_E_INVALID;
  }
  if (is_already(&id))
    return 0;
  if (geteuid() != 0) {
    snprintf(why, room, "user %s: only root can become another user", user);
    return MP_E_DENIED;
  }
  if (!become(&id)) {
    char text[96];
    snprintf(why, room, "user %s: %s", user, strerror_r(errno, text, sizeof text));
    return MP_E_SYSTEM;
  }
  /* A capability that was kept, or a kernel that ignores us: then root is one call away and nothing was gained. */
  if (!is_already(&id) || setuid(0) == 0 || seteuid(0) == 0) {
    snprintf(why, room, "user %s: root could be had back", user);
    return MP_E_SYSTEM;
  }
  return 0;
}
