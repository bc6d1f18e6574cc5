/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The vm layer as the core sees it, in the simplest form that keeps its
 * contract: objects are flat memory, a map is a short list, every allocation
 * can be made to fail.  It lets the core be tested without guest memory.
 */
#include "fake.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "vm/vm.h"

#define FAKE_MAXENTRIES 16

struct vm_object {
	uint64_t len;
	char *mem;
	unsigned refs;
	bool incore;
};

struct fake_entry {
	gpa_t gpa;
	uint64_t len, off;
	struct vm_object *obj;
	int prot;
	unsigned flags;
};

struct vmspace {
	struct vmspace_config cfg;
	struct fake_entry e[FAKE_MAXENTRIES];
	uint64_t held;
};

unsigned fake_objects;
int fake_fail_object, fake_fail_insert, fake_fail_fault;

int
vm_init(void)
{
	return 0;
}

int
vmspace_create(const struct vmspace_config *cfg, struct vmspace **vmsp)
{
	*vmsp = calloc(1, sizeof(**vmsp));
	(*vmsp)->cfg = *cfg;
	return 0;
}

void
vmspace_destroy(struct vmspace *vms)
{
	for (unsigned i = 0; i < FAKE_MAXENTRIES; i++)
		if (vms->e[i].len != 0)
			vm_object_rele(vms->e[i].obj);
	KASSERT(vms->held == 0, "%lu pages still held", vms->held);
	free(vms);
}

struct pmap *
vmspace_pmap(struct vmspace *vms)
{
	(void)vms;
	return NULL;
}

static int
fake_object(uint64_t len, int fd, struct vm_object **objp)
{
	struct vm_object *o;

	if (fake_fail_object != 0)
		return fake_fail_object;
	o = calloc(1, sizeof(*o));
	o->len = len;
	o->refs = 1;
	o->mem = mmap(NULL, len, PROT_READ | PROT_WRITE,
	    fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE : MAP_SHARED,
	    fd, 0);
	if (o->mem == MAP_FAILED) {
		free(o);
		return -ENOMEM;
	}
	fake_objects++;
	*objp = o;
	return 0;
}

int
vm_object_create_anon(uint64_t len, struct vm_object **objp)
{
	return fake_object(len, -1, objp);
}

int
vm_object_create_dev(int fd, uint64_t len, struct vm_object **objp)
{
	return fake_object(len, fd, objp);
}

void
vm_object_ref(struct vm_object *obj)
{
	obj->refs++;
}

void
vm_object_rele(struct vm_object *obj)
{
	if (--obj->refs != 0)
		return;
	munmap(obj->mem, obj->len);
	free(obj);
	fake_objects--;
}

uint64_t
vm_object_resident(struct vm_object *obj)
{
	return obj->len;
}

void
vm_object_set_incore(struct vm_object *obj, bool incore)
{
	obj->incore = incore;
}

int
vm_map_insert(struct vmspace *vms, gpa_t gpa, uint64_t len,
    struct vm_object *obj, uint64_t off, int prot, unsigned flags)
{
	struct fake_entry *slot = NULL;

	if (fake_fail_insert != 0)
		return fake_fail_insert;
	if (gpa + len > 1ul << 47 || gpa + len < gpa)
		return -EFAULT;
	for (unsigned i = 0; i < FAKE_MAXENTRIES; i++) {
		struct fake_entry *e = &vms->e[i];

		if (e->len == 0)
			slot = e;
		else if (gpa < e->gpa + e->len && e->gpa < gpa + len)
			return -EFAULT;
	}
	if (slot == NULL)
		return -ENOMEM;
	vm_object_ref(obj);
	*slot = (struct fake_entry){ gpa, len, off, obj, prot, flags };
	return 0;
}

int
vm_map_remove(struct vmspace *vms, gpa_t gpa, uint64_t len)
{
	for (unsigned i = 0; i < FAKE_MAXENTRIES; i++) {
		struct fake_entry *e = &vms->e[i];

		if (e->len == 0 || e->gpa != gpa || e->len != len)
			continue;
		vm_object_rele(e->obj);
		memset(e, 0, sizeof(*e));
		vms->cfg.unmapped(vms->cfg.arg, gpa, len);
		return 0;
	}
	return -EINVAL;
}

int
vm_map_discard(struct vmspace *vms, gpa_t gpa, uint64_t len)
{
	(void)vms;
	(void)gpa;
	(void)len;
	return 0;
}

/* Nothing is ever taken away here, so all is wired. */
int
vm_map_wire(struct vmspace *vms, gpa_t gpa, uint64_t len, vm_wired_fn *fn, void *arg)
{
	(void)vms;
	(void)gpa;
	(void)len;
	(void)fn;
	(void)arg;
	return 0;
}

void
vm_map_unwire(struct vmspace *vms, gpa_t gpa, uint64_t len)
{
	(void)vms;
	(void)gpa;
	(void)len;
}

int
vmspace_pin(struct vmspace *vms)
{
	(void)vms;
	return 0;
}

void
vmspace_unpin(struct vmspace *vms)
{
	(void)vms;
}

static struct fake_entry *
fake_find(struct vmspace *vms, gpa_t gpa)
{
	for (unsigned i = 0; i < FAKE_MAXENTRIES; i++)
		if (vms->e[i].len != 0 && gpa >= vms->e[i].gpa &&
		    gpa - vms->e[i].gpa < vms->e[i].len)
			return &vms->e[i];
	return NULL;
}

int
vm_fault(struct vmspace *vms, gpa_t gpa, int access)
{
	struct fake_entry *e = fake_find(vms, gpa);

	if (fake_fail_fault != 0)
		return fake_fail_fault;
	return e != NULL && (e->prot & access) != 0 ? 0 : -EFAULT;
}

int
vm_hold(struct vmspace *vms, gpa_t gpa, uint64_t len, int prot,
    struct vm_hold *hold)
{
	struct fake_entry *e = fake_find(vms, gpa);

	(void)len;
	if (fake_fail_fault != 0)
		return fake_fail_fault;
	if (e == NULL || (e->prot & prot) != prot)
		return -EFAULT;
	vm_object_ref(e->obj);
	vms->held++;
	hold->ptr = e->obj->mem + e->off + (gpa - e->gpa);
	hold->page = e->obj;
	hold->gpa = gpa;
	hold->prot = prot;
	return 0;
}

void
vm_release(struct vmspace *vms, struct vm_hold *hold)
{
	vms->held--;
	vm_object_rele(hold->page);
}

void
vmspace_stats(struct vmspace *vms, struct vm_stats *st)
{
	st->held = vms->held;
}

int
fake_map_flags(struct vmspace *vms, gpa_t gpa)
{
	struct fake_entry *e = fake_find(vms, gpa);

	return e == NULL ? -1 : (int)e->flags;
}
