/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Protected mode's part of the framework.  Without paging all is one flat
 * space; segments alone keep user code in check.
 */
#ifndef GUEST32_H
#define GUEST32_H

#include "guest.h"

extern uint8_t guest_tss[0x68];
extern uint32_t guest_trap_ds; /* DS at the trap */
extern const char guest_run_iret[];

/* A context for code at privilege 0 or 3; guest_stack32 is its stack. */
extern char guest_stack32[8192];
#define STACK32 ((word)guest_stack32 + sizeof(guest_stack32))
struct guest_ctx guest_context(const char *code, unsigned cpl);
unsigned guest_kernel(const char *code, uint32_t edi, uint32_t esi);
unsigned guest_user(const char *code, uint32_t edi, uint32_t esi);
#define USER(name, a, b) guest_user(name, a, b)
#define KERNEL(name, a, b) guest_kernel(name, a, b)

uint64_t guest_desc(uint32_t base, uint32_t limit, unsigned access,
    unsigned flags);

#endif /* GUEST32_H */
