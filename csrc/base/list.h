/* base/list.h -- intrusive doubly linked list with a head. A node that is in no list points to itself. */
#ifndef MP_BASE_LIST_H
#define MP_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

typedef struct mp_list {
  struct mp_list *prev, *next;
} mp_list;

#define MP_CONTAINER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

static inline void mp_list_init(mp_list *node)
{
  node->prev = node->next = node;
}

static inline bool mp_list_empty(const mp_list *head)
{
  return head->next == head;
}

static inline void mp_list_push(mp_list *head, mp_list *node) /* at the tail */
{
  node->prev = head->prev;
  node->next = head;
  head->prev->next = node;
  head->prev = node;
}

static inline void mp_list_remove(mp_list *node) /* twice is harmless */
{
  node->prev->next = node->next;
  node->next->prev = node->prev;
  mp_list_init(node);
}

#endif
