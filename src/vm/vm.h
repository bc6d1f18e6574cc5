/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vm: machine-independent guest memory, for the layers above (vmm, engines).
 * A vmspace is one guest's physical address space: a vm_map of gpa ranges
 * onto vm_objects, and a pmap.
 */
#ifndef VM_VM_H
#define VM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "pmap/pmap.h"
#include "vmm/types.h"

struct vmspace;
struct vm_object;

/* --- vmspace ---------------------------------------------------------- */

enum vm_event {
	VM_EVENT_SWAP_FULL,  /* page-out stopped; memory goes over the limit */
	VM_EVENT_SWAP_ERROR, /* a write to swap failed; its pages stay */
	VM_EVENT_LOST,	     /* gpa: contents cannot be read from swap or file */
};

struct vmspace_config {
	enum pmap_type type;
	unsigned pmap_flags; /* PMAP_F_* */
	const struct pmap_callbacks *cb;
	void *arg;
	/* Called after [gpa, gpa+len) lost its pages or rights, and before the
	 * memory is reused; may be NULL. */
	void (*unmapped)(void *arg, gpa_t gpa, uint64_t len);
	/* A fault of the guest that would go over the limit, while nothing can
	 * be paged out, fails with -ENOSPC; else memory goes over it. */
	bool hard_limit;
	/* A thread pages out ahead of need while there is a limit. */
	bool pageout_thread;
	/* Something an operator should know; under vm's locks: note it and
	 * return.  May be NULL. */
	void (*event)(void *arg, enum vm_event ev, gpa_t gpa, int error);
};

int vmspace_create(const struct vmspace_config *cfg,
    struct vmspace **vmsp) BASE_MUST_CHECK;
void vmspace_destroy(struct vmspace *vms);
struct pmap *vmspace_pmap(struct vmspace *vms);

/* --- objects ---------------------------------------------------------- */

/* Anonymous, demand-zero, pageable; len bytes, page multiple. One reference
 * to the caller. => 0, -EINVAL, -ENOMEM */
int vm_object_create_anon(uint64_t len,
    struct vm_object **objp) BASE_MUST_CHECK;
/* Device memory on fd (a memfd or a file of at least len bytes), which the
 * object duplicates; other processes may map the same fd. */
int vm_object_create_dev(int fd, uint64_t len,
    struct vm_object **objp) BASE_MUST_CHECK;
/* Anonymous; shows [off, off+len) of backing until a page is written, which
 * copies it.  The backing object should not be written to any more.
 * => 0, -EINVAL, -ENOMEM */
int vm_object_create_shadow(struct vm_object *backing, uint64_t off,
    uint64_t len, struct vm_object **objp) BASE_MUST_CHECK;
/*
 * [off, off+len) of a regular file, read in when it is touched; beyond its end,
 * within the last page, zeros.  VM_FILE_RO: never written to.  VM_FILE_PRIVATE:
 * what the guest writes is its own, and goes to swap.  Pages that were not
 * written leave without I/O and are read again.  A page that the file no longer
 * has is -EIO at its fault, and an event.
 * => 0; -EINVAL: alignment, no regular file, more pages than it has; -ENOMEM;
 *    why fd cannot be duplicated
 */
enum vm_file_mode { VM_FILE_RO, VM_FILE_PRIVATE };
int vm_object_create_file(int fd, uint64_t off, uint64_t len,
    enum vm_file_mode mode, struct vm_object **objp) BASE_MUST_CHECK;
/*
 * Memory of the host, piece after piece: of a file or device from off, or with
 * fd -1 what is mapped shared at ptr.  Never paged out.  An object with a piece
 * that may only be read may only be read.  Who passes a file sees to it that it
 * does not shrink.
 * => 0, -EINVAL, -ENOMEM, or why a piece cannot be mapped
 */
struct vm_sg {
	int fd;
	void *ptr;
	uint64_t off, len;
};
int vm_object_create_sg(const struct vm_sg *sg, unsigned n, bool uncached,
    struct vm_object **objp) BASE_MUST_CHECK;
void vm_object_ref(struct vm_object *obj);
void vm_object_rele(struct vm_object *obj);
uint64_t vm_object_resident(struct vm_object *obj); /* bytes */
/* Whether core dumps contain it; a new object is in them. */
void vm_object_set_incore(struct vm_object *obj, bool incore);

/* --- map -------------------------------------------------------------- */

#define VM_MAP_F_WIRED 0x1

/*
 * Maps [off, off+len) of obj at exactly gpa; takes a reference of its own.
 * prot is also the maximum protection.
 * => 0; -EFAULT overlap or outside [0, 2^47); -EINVAL; -EACCES: write to an
 *    object that may only be read; -ENOMEM; WIRED: faults
 *    the whole range in, and undoes everything on failure (-EIO, too)
 */
int vm_map_insert(struct vmspace *vms, gpa_t gpa, uint64_t len,
    struct vm_object *obj, uint64_t off, int prot,
    unsigned flags) BASE_MUST_CHECK;
/* Removes exactly one entry. => 0, -EINVAL if no entry matches both */
int vm_map_remove(struct vmspace *vms, gpa_t gpa,
    uint64_t len) BASE_MUST_CHECK;
int vm_map_protect(struct vmspace *vms, gpa_t gpa, uint64_t len,
    int prot) BASE_MUST_CHECK;
/*
 * Wires every page of exactly one entry, writable ones as the guest's own, and
 * calls fn for each, in order, under the map's lock.  vm_map_unwire() undoes
 * it, and leaves the pages dirty, for whoever needed them wired may have
 * written to them.  Not twice; an entry that was inserted wired stays so.
 * => 0; -EINVAL: no such entry; -ENOMEM, -EIO, fn's error: nothing is wired
 */
typedef int vm_wired_fn(void *arg, gpa_t gpa, uint64_t hpa);
int vm_map_wire(struct vmspace *vms, gpa_t gpa, uint64_t len, vm_wired_fn *fn,
    void *arg) BASE_MUST_CHECK;
void vm_map_unwire(struct vmspace *vms, gpa_t gpa, uint64_t len);
/* => true and the entry's bounds and rights, if one contains gpa */
bool vm_map_lookup(struct vmspace *vms, gpa_t gpa, gpa_t *startp,
    gpa_t *endp, int *protp);

/* [gpa, gpa+len) holds nothing of value: given back at once, zeros when touched
 * again.  Wired and held pages stay as they are.
 * => 0; -EINVAL alignment; -EFAULT not within one writable pageable entry */
int vm_map_discard(struct vmspace *vms, gpa_t gpa,
    uint64_t len) BASE_MUST_CHECK;

/* --- faults and holds ------------------------------------------------- */

/*
 * Resolves a nested fault: afterwards pmap_walk(gpa, access) succeeds.
 * => may sleep (page-in); the calling vCPU must not be active in the pmap
 * => 0, -EFAULT (no entry or access forbidden), -ENOMEM, -EINTR; -EIO (the
 *    contents cannot be read), -ENOSPC (hard_limit): try again later
 */
int vm_fault(struct vmspace *vms, gpa_t gpa, int access) BASE_MUST_CHECK;

/*
 * Holds the one page that contains [gpa, gpa+len) (which must not cross a
 * page: KASSERT) for access by the host: faults it in, wires it, returns a
 * pointer through the direct map.  Undone by vm_release().  A write hold
 * marks the page dirty.
 * => 0, -EFAULT, -EIO, -ENOMEM
 */
struct vm_hold {
	void *ptr;
	void *page; /* cookie */
	gpa_t gpa;
	int prot;
};
int vm_hold(struct vmspace *vms, gpa_t gpa, uint64_t len, int prot,
    struct vm_hold *hold) BASE_MUST_CHECK;
void vm_release(struct vmspace *vms, struct vm_hold *hold);

/* --- page-out ---------------------------------------------------------- */

/* Swap for all vmspaces, in a nameless file in dir; once.
 * => 0, -EINVAL, -EBUSY, -ENOMEM, or why the file cannot be made */
int vm_swap_init(const char *dir, uint64_t bytes) BASE_MUST_CHECK;
void vm_swap_fini(void);     /* when all objects are gone */
uint64_t vm_swap_used(void); /* slots */
bool vm_swap_ready(void);
/* Pages are compressed before they go to disk, into at most bytes of memory;
 * once.  What that takes counts towards the limit of every vmspace, and is at
 * most a quarter of it. => 0, -EINVAL, -EBUSY, -ENOMEM */
int vm_compress_init(uint64_t bytes) BASE_MUST_CHECK;
void vm_compress_fini(void);	  /* when all objects are gone */
uint64_t vm_compress_bytes(void); /* of pages, as they are packed */

/* Anonymous memory that may be resident, in bytes; 0: no limit.  Takes effect
 * before it returns. => 0; -EINVAL: less than VM_LIMIT_MIN; -EBUSY: pinned */
#define VM_LIMIT_MIN (1ul << 20)
int vmspace_set_limit(struct vmspace *vms, uint64_t bytes) BASE_MUST_CHECK;
uint64_t vmspace_limit(struct vmspace *vms);
/* Memory is about to be wired whole: there is no limit, and can be none (-EBUSY)
 * until unpinned. => 0, -EBUSY */
int vmspace_pin(struct vmspace *vms) BASE_MUST_CHECK;
void vmspace_unpin(struct vmspace *vms);
/* Pages out about that many bytes now. => how many */
uint64_t vmspace_reclaim(struct vmspace *vms, uint64_t bytes);

/* --- looking ----------------------------------------------------------- */

/*
 * Up to 8 clients in the process learn independently which pages were written,
 * by the guest or through holds, and which the guest accessed: each since its
 * own last call.  Before a client's first: all that was ever written; if its
 * place had been another's, all that ever had contents.  While memory is pinned
 * for devices, all that is wired counts as written.
 */
enum { VM_MARK_DIRTY, VM_MARK_ACCESSED, VM_NMARK };
int vm_mark_open(void) BASE_MUST_CHECK; /* => a client, or -EMFILE */
void vm_mark_close(int client);
/* Under vm's locks, for 2 MB of which some pages are marked. => false: no room,
 * these marks stay for the next call */
typedef bool vm_mark_fn(void *arg, const struct vmm_block *b);
/* One round of invalidation, without stopping vCPUs. fn may be NULL.
 * => pages reported */
uint64_t vm_mark_fetch(struct vmspace *vms, int client, unsigned which,
    vm_mark_fn *fn, void *arg);

/* The state (VMM_PG_*) of n pages from gpa on. */
void vm_page_states(struct vmspace *vms, gpa_t gpa, uint64_t n, uint16_t *state);
/* Everything about one page but segid. => false: no map there */
bool vm_page_info(struct vmspace *vms, gpa_t gpa, struct vmm_page *pg);
/* What an object and those behind it have, without pages and entered. */
void vm_object_ledger(struct vm_object *obj, struct vmm_ledger *l);
/* Adds what the range has: all but held, faults and page-outs. */
void vm_range_ledger(struct vmspace *vms, gpa_t gpa, uint64_t len,
    struct vmm_ledger *l);
/*
 * Counts everything anew by walking objects and tables, under the locks, and
 * calls fn with each count as kept and as found; obj: of that object, NULL: of
 * the vmspace.  => how many differ
 */
typedef void vm_recount_fn(void *arg, struct vm_object *obj, const char *name,
    uint64_t counted, uint64_t found);
unsigned vm_recount(struct vmspace *vms, vm_recount_fn *fn, void *arg);
/* Asserts the invariants of the map, its objects, pages and pmap. */
void vm_check(struct vmspace *vms);

/* --- statistics ------------------------------------------------------- */

struct vm_stats {
	uint64_t resident, wired, held; /* pages */
	uint64_t swapped, compressed, zero, shared, superpages;
	uint64_t faults_zero, faults_swap, faults_file, faults_cow;
	uint64_t faults_ad, faults_prot, faults_fail;
	uint64_t promotions, demotions, invalidations, kicks;
	uint64_t compressed_bytes, pool; /* of the process; pages */
	uint64_t reserve_runs; /* batches paged out by the thread */
	uint64_t spills; /* compressed pages written to disk after all */
	uint64_t collapses, collapse_fails; /* 2 MB host pages asked for */
	uint64_t lost; /* pages of device memory, of the whole process */
	uint64_t pt_pages; /* page-table pages of the pmap */
	uint64_t pageouts, pageins, refaults, swap_errors;
	uint64_t stalls; /* faults that failed with -ENOSPC or -EIO */
};
void vmspace_stats(struct vmspace *vms, struct vm_stats *st);

/* What exists in the process: all 0 when every vmspace and object is gone. */
struct vm_live {
	uint64_t spaces, entries, objects, families, chunks;
	uint64_t dmap; /* bytes of the direct map */
};
void vm_live_get(struct vm_live *live);

/* Process-wide, before the first vmspace: reserves the direct map.
 * => 0 or -errno; idempotent */
int vm_init(void) BASE_MUST_CHECK;

#endif /* VM_VM_H */
