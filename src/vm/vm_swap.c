/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Swap slots: one file without a name for the process, a bit a slot.
 * Without vm_swap_init() there is no swap, and dirty pages stay.
 */
#include <errno.h>
#include <string.h>

#include "vm/vm_int.h"

static struct {
	struct lock lock;
	bool ready;
	int fd;
	uint64_t *map;	       /* S: swap lock */
	uint32_t nslots, hint; /* S */
	uint64_t used;	       /* S */
} vm_swap = { .fd = -1 };

int
vm_swap_init(const char *dir, uint64_t bytes)
{
	uint64_t n = bytes / VMM_PAGE_SIZE;

	if (n == 0 || n >= VM_SLOT_POOL)
		return -EINVAL;
	if (vm_swap.ready)
		return -EBUSY;
	vm_swap.map = host_alloc((n + 63) / 64 * 8);
	if (vm_swap.map == NULL)
		return -ENOMEM;
	vm_swap.fd = host_swap_open(dir);
	if (vm_swap.fd < 0) {
		host_free(vm_swap.map);
		return vm_swap.fd;
	}
	lock_init(&vm_swap.lock, "vm_swap", LOCK_RANK_VM_SWAP);
	vm_swap.nslots = (uint32_t)n;
	vm_swap.hint = 0;
	vm_swap.ready = true;
	return 0;
}

void
vm_swap_fini(void)
{
	if (!vm_swap.ready)
		return;
	KASSERT(vm_swap.used == 0, "%lu swap slots in use", vm_swap.used);
	host_swap_close(vm_swap.fd);
	host_free(vm_swap.map);
	lock_fini(&vm_swap.lock);
	vm_swap.ready = false;
}

bool
vm_swap_ready(void)
{
	return vm_swap.ready;
}

uint64_t
vm_swap_used(void)
{
	uint64_t n = 0;

	if (vm_swap.ready) {
		lock_acquire(&vm_swap.lock);
		n = vm_swap.used;
		lock_release(&vm_swap.lock);
	}
	return n;
}

static bool
vm_swap_bit(uint32_t s)
{
	return (vm_swap.map[s / 64] >> (s % 64) & 1) != 0;
}

/* n slots in a row. => -ENOSPC */
int
vm_swap_alloc(unsigned n, uint32_t *slotp)
{
	uint32_t run = 0, s;
	int error = -ENOSPC;

	if (!vm_swap.ready)
		return -ENOSPC;
	lock_acquire(&vm_swap.lock);
	s = vm_swap.hint;
	for (uint64_t i = 0; i < (uint64_t)vm_swap.nslots + n; i++, s++) {
		if (s >= vm_swap.nslots) {
			s = 0;
			run = 0;
		}
		run = vm_swap_bit(s) ? 0 : run + 1;
		if (run == n) {
			*slotp = s + 1 - n;
			for (uint32_t k = *slotp; k <= s; k++)
				vm_swap.map[k / 64] |= 1ul << (k % 64);
			vm_swap.used += n;
			vm_swap.hint = s + 1;
			error = 0;
			break;
		}
	}
	lock_release(&vm_swap.lock);
	return error;
}

void
vm_swap_free(uint32_t slot)
{
	if (vm_slot_compressed(slot)) {
		vm_compress_free(slot);
		return;
	}
	lock_acquire(&vm_swap.lock);
	KASSERT(vm_swap_bit(slot), "slot %u freed twice", slot);
	vm_swap.map[slot / 64] &= ~(1ul << (slot % 64));
	vm_swap.used--;
	lock_release(&vm_swap.lock);
}

int
vm_swap_write(void *const *ptr, unsigned n, uint32_t slot)
{
	return host_swap_write(vm_swap.fd, ptr, n, (uint64_t)slot * VMM_PAGE_SIZE);
}

int
vm_swap_read(void *ptr, unsigned n, uint32_t slot)
{
	return host_swap_read(vm_swap.fd, ptr, n, (uint64_t)slot * VMM_PAGE_SIZE);
}
