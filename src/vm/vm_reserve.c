/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The page-out thread of a vmspace, which begins with its first limit: keeps a
 * reserve free below the limit, so that faults seldom have to page out.
 *
 * A fault that finds less than half of the reserve wakes it; it goes on until
 * the reserve is whole, 64 pages at a time, and writes them with no
 * lock held; they are busy meanwhile (docs/LOCKING.md).
 * While every second page that leaves is soon wanted again, the reserve halves:
 * the guest's memory does not fit, and pages taken ahead of need are taken in
 * vain.  It grows again when they stay away.
 */
#include "vm/vm_int.h"

#define VM_RESERVE_MIN 32ul
#define VM_RESERVE_MAX 1024ul
#define VM_RESERVE_STEP 64ul
#define VM_RESERVE_WINDOW 512ul /* page-outs between two looks at refaults */
#define VM_RESERVE_RETRY 100000000 /* ns, when nothing can leave */

static uint64_t
vm_reserve_limit(struct vmspace *vms)
{
	return atomic_load_explicit(&vms->limit, memory_order_relaxed);
}

static uint64_t
vm_reserve(struct vmspace *vms) LOCK_REQUIRES(&vms->lock)
{
	return base_min(vms->reserve, vm_reserve_limit(vms) / 16);
}

static void
vm_reserve_adapt(struct vmspace *vms) LOCK_REQUIRES(&vms->lock)
{
	uint64_t out = vms->st.pageouts - vms->reserve_out;
	uint64_t back = vms->st.refaults - vms->reserve_back;

	if (out < VM_RESERVE_WINDOW)
		return;
	if (back > out / 2)
		vms->reserve = base_max(vms->reserve / 2, VM_RESERVE_MIN);
	else
		vms->reserve = base_min(vms->reserve * 2, VM_RESERVE_MAX);
	vms->reserve_out += out;
	vms->reserve_back += back;
}

static void
vm_reserve_thread(void *arg) LOCK_NO_ANALYSIS
{
	struct vmspace *vms = arg;
	struct vm_out out;

	lock_acquire(&vms->lock);
	while (!vms->reserve_quit) {
		uint64_t limit = vm_reserve_limit(vms);
		uint64_t want = vm_pageout_resident(vms) + vm_reserve(vms);

		if (limit == 0 || want <= limit) {
			(void)lock_cond_wait(&vms->reserve_cond, &vms->lock, -1);
			continue;
		}
		vms->st.reserve_runs++;
		if (vm_pageout_some(vms, base_min(want - limit, VM_RESERVE_STEP),
			&out) == 0) {
			(void)lock_cond_wait(&vms->reserve_cond, &vms->lock,
			    VM_RESERVE_RETRY);
			continue;
		}
		if (out.n != 0) {
			vm_pageout_finish(vms, &out);
		} else {
			/* whoever waits for the lock has it now */
			lock_release(&vms->lock);
			host_yield();
			lock_acquire(&vms->lock);
		}
		vm_reserve_adapt(vms);
	}
	lock_release(&vms->lock);
}

void
vm_reserve_start(struct vmspace *vms)
{
	if (!vms->cfg.pageout_thread || vms->reserve_thread != NULL)
		return;
	/* without it, faults page out */
	if (host_thread_start("pageout", vm_reserve_thread, vms,
		&vms->reserve_thread) != 0)
		vms->reserve_thread = NULL;
}

void
vm_reserve_note(struct vmspace *vms, uint64_t resident)
{
	if (vms->reserve_thread != NULL &&
	    resident + vm_reserve(vms) / 2 > vm_reserve_limit(vms))
		lock_cond_broadcast(&vms->reserve_cond);
}

void
vm_reserve_init(struct vmspace *vms)
{
	lock_cond_init(&vms->reserve_cond);
	vms->reserve = VM_RESERVE_MAX;
}

/* => nobody uses the vmspace any more */
void
vm_reserve_fini(struct vmspace *vms)
{
	lock_acquire(&vms->lock);
	vms->reserve_quit = true;
	lock_cond_broadcast(&vms->reserve_cond);
	lock_release(&vms->lock);
	if (vms->reserve_thread != NULL)
		host_thread_join(vms->reserve_thread);
	lock_cond_fini(&vms->reserve_cond);
}
