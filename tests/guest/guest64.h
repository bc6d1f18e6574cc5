/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Long mode's part of the framework.
 */
#ifndef GUEST64_H
#define GUEST64_H

#include "guest.h"

/* Where tests map things: PML4 slots 2 and up are free. */
#define VA_USER 0x10000000000ul	/* code, mapped by guest_user_code() */
#define VA_USTACK 0x10000100000ul
#define VA_TEST 0x18000000000ul

extern uint64_t pml4[512];
extern uint8_t guest_tss[0x2100]; /* with an I/O bitmap */
extern char guest_kstack_end[], guest_ist_end[];

/* The entry for va at level 4 to 1, making tables (P, W, U) on the way. */
uint64_t *guest_pte(uint64_t va, unsigned level);
/* Maps pa there; flags as PTE_*. level 1: 4 KB, 2: 2 MB, 3: 1 GB. */
void guest_map(uint64_t va, uint64_t pa, uint64_t flags, unsigned level);

/* Contexts for a snippet: rdi and rsi are its arguments. */
unsigned guest_kernel(const char *code, uint64_t rdi, uint64_t rsi);
unsigned guest_user(const char *code, const char *end, uint64_t rdi,
    uint64_t rsi);
/* Copies user code and maps it and a stack. */
void guest_user_code(const char *code, const char *end);

#define USER(name, a, b) guest_user(name, name##_end, a, b)
#define KERNEL(name, a, b) guest_kernel(name, a, b)

#endif /* GUEST64_H */
