#!/bin/sh
# Keeps a ticket's mail: TICKETS/NUMBER/TIME-PID.eml. Called by examples/tickets.lua with the number as its argument and
# the mail on standard input. Exit status as in sysexits.h.
[ $# -eq 1 ] && [ -n "$TICKETS" ] || exit 64
umask 077
mkdir -p "$TICKETS/$1" || exit 75
name="$TICKETS/$1/$(date +%s)-$$"
cat >"$name.part" && mv "$name.part" "$name.eml" || {
  rm -f "$name.part"
  exit 75
}
