/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/look.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vm/vm.h"
#include "vmm/machine_int.h"

static void
look_clear(struct vmm_ledger *l, int segid)
{
	*l = (struct vmm_ledger){ .size = sizeof(*l), .segid = segid };
}

static void
look_entered(struct machine *m, const struct memmap *map, struct vmm_ledger *l)
    LOCK_REQUIRES(&m->lock)
{
	struct pmap_stats st = { 0 };

	pmap_count(vmspace_pmap(m->vms), map->gpa, map->len, &st);
	l->entered += st.resident;
	l->superpages += st.large[0] + st.large[1];
}

/* All segments, mapped or not. */
int
look_ledger(struct machine *m, int segid, struct vmm_ledger *l)
{
	if (segid < -1 || segid >= VMM_MAXSEGS)
		return -EINVAL;
	look_clear(l, segid);
	if (segid < 0)
		l->limit = vmspace_limit(m->vms) / VMM_PAGE_SIZE;
	lock_acquire(&m->lock);
	for (int i = 0; i < VMM_MAXSEGS; i++) {
		if (m->seg[i].obj == NULL || (segid >= 0 && i != segid))
			continue;
		l->pages += m->seg[i].len / VMM_PAGE_SIZE;
		vm_object_ledger(m->seg[i].obj, l);
	}
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		if (m->map[i].len != 0 &&
		    (segid < 0 || m->map[i].segid == segid))
			look_entered(m, &m->map[i], l);
	lock_release(&m->lock);
	return 0;
}

int
look_map_ledger(struct machine *m, gpa_t gpa, struct vmm_ledger *l)
{
	int error = -ENOENT;

	lock_acquire(&m->lock);
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		if (m->map[i].len != 0 && m->map[i].gpa == gpa) {
			look_clear(l, m->map[i].segid);
			vm_range_ledger(m->vms, gpa, m->map[i].len, l);
			error = 0;
		}
	lock_release(&m->lock);
	return error;
}

void
look_page(struct machine *m, gpa_t gpa, struct vmm_page *pg)
{
	lock_acquire(&m->lock);
	if (vm_page_info(m->vms, gpa, pg))
		for (unsigned i = 0; i < VMM_MAXMAPS; i++)
			if (gpa >= m->map[i].gpa &&
			    gpa - m->map[i].gpa < m->map[i].len)
				pg->segid = m->map[i].segid;
	lock_release(&m->lock);
}

void
look_states(struct machine *m, gpa_t gpa, uint64_t n, uint16_t *state)
{
	vm_page_states(m->vms, gpa, n, state);
}

uint64_t
look_max_blocks(struct machine *m)
{
	uint64_t n = 0;

	lock_acquire(&m->lock);
	for (unsigned i = 0; i < VMM_MAXMAPS; i++)
		n += (m->map[i].len >> 21) + 2;
	lock_release(&m->lock);
	return n;
}

int
look_mark_open(void)
{
	return vm_mark_open();
}

void
look_mark_close(int client)
{
	vm_mark_close(client);
}

uint64_t
look_marks(struct machine *m, int client, unsigned which, look_block_fn *fn,
    void *arg)
{
	_Static_assert(LOOK_DIRTY == (int)VM_MARK_DIRTY &&
	    LOOK_ACCESSED == (int)VM_MARK_ACCESSED, "vm's numbers");
	return vm_mark_fetch(m->vms, client, which, fn, arg);
}

struct look_recounting {
	struct machine *m;
	struct vmm_count *c;
	unsigned n, count;
};

static void
look_recount_one(void *arg, struct vm_object *obj, const char *name,
    uint64_t counted, uint64_t found)
{
	struct look_recounting *r = arg;
	const char *seg = "";

	if (r->count++ >= r->n)
		return;
	for (unsigned i = 0; obj != NULL && i < VMM_MAXSEGS; i++)
		if (r->m->seg[i].obj == obj)
			seg = r->m->seg[i].name[0] != '\0' ? r->m->seg[i].name :
							     "sysmem";
	memset(r->c, 0, sizeof(*r->c));
	snprintf(r->c->name, sizeof(r->c->name), "%s%s%s", seg,
	    seg[0] != '\0' ? "." : "", name);
	r->c->counted = counted;
	r->c->found = found;
	r->c++;
}

unsigned
look_recount(struct machine *m, struct vmm_count *c, unsigned n,
    unsigned *countp)
{
	struct look_recounting r = { m, c, n, 0 };
	unsigned bad;

	lock_acquire(&m->lock);
	bad = vm_recount(m->vms, look_recount_one, &r);
	lock_release(&m->lock);
	*countp = r.count;
	return bad;
}
