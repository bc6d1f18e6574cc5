/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by the files of this folder only. */
#ifndef VM_VM_INT_H
#define VM_VM_INT_H

#include <stdatomic.h>

#include "base/host.h"
#include "base/lock.h"
#include "vm/vm.h"

#define VM_MAXGPA (1ul << 47)
#define VM_2M (2ul << 20)
/* The host is asked for one page behind an aligned 2 MB when so many pages in a
 * row are in use, or so many at all: the others are likely to follow, and zeroing
 * them at once costs less than the host's faults for each would. */
#define VM_HUGE_RUN 64u
#define VM_HUGE_AT 384u
#define VM_HUGE_OPEN 4u /* so many may be waiting for the others to follow */
#define VM_NLOST 32u /* more than vCPUs and devices that wait at once */
#define VM_CHUNK 512u /* pages of state that are allocated together */
#define VM_NIL (~0u)  /* no page, no slot */
#define VM_SLOT_POOL 0x80000000u /* in a slot: compressed, not on disk */

/*
 * One page of an object.
 *
 *   NONE --fault--> RESIDENT --page-out--> SWAPPED (or ZERO) --fault--> RESIDENT
 *
 * NONE: never had contents here; the backing object, then zeros, are looked
 * at.  ZERO: known to be zeros without storage; hides the backing object.
 */
enum vm_page_state { VM_PAGE_NONE, VM_PAGE_RESIDENT, VM_PAGE_SWAPPED, VM_PAGE_ZERO };
#define VM_PAGE_F_DIRTY 0x1  /* differs from its swap slot, or from zeros */
#define VM_PAGE_F_REF 0x2    /* accessed since the last aging */
#define VM_PAGE_F_ACTIVE 0x4 /* which queue, if queued */
#define VM_PAGE_F_QUEUED 0x8
/* SWAPPED and being read, or RESIDENT, mapped nowhere and being written, without
 * a lock: state, slot and host memory are the reader's or writer's until it
 * clears the flag. */
#define VM_PAGE_F_BUSY 0x20
#define VM_PAGE_F_FILE 0x10  /* while not DIRTY: can be read from the file again */

/* F: family lock of its object */
struct vm_page {
	uint32_t next, prev; /* F: pindex in the queue; swapped: time of it */
	uint32_t slot;	     /* F: swap slot, or entry of the pool, that holds the
				contents, or NIL: vm_page_slot() */
	uint16_t wire;	     /* F: holds and wired maps */
	uint8_t state;	     /* F */
	uint8_t flags;	     /* F */
	/* F: by VM_MARK_*: clients that have not seen it written, accessed */
	uint8_t mark[VM_NMARK];
	uint16_t idx; /* C: in its chunk */
};

struct vm_chunk {
	struct vm_object *obj; /* C */
	uint32_t first;	       /* C: pindex of page[0] */
	uint8_t mark[VM_NMARK]; /* F: of all its pages, or more */
	uint16_t nresident;	/* F */
	bool huge;		/* F: one host page lies behind all of it */
	bool early;		/* F: that was tried before it was full */
	struct vm_page page[VM_CHUNK];
};

/* Objects that shadow each other share one lock. */
struct vm_family {
	struct lock lock;
	_Atomic unsigned refs;
	struct lock_cond busy; /* with lock: a page stopped being busy */
};

struct vm_queue {
	uint32_t head, tail, n;
};

enum vm_object_kind { VM_OBJECT_ANON, VM_OBJECT_DEV, VM_OBJECT_FILE, VM_OBJECT_SG };

/* What befell the pages of an object, whichever vmspace faulted. */
struct vm_object_stats {
	uint64_t faults_zero, faults_swap, faults_file, faults_cow, faults_prot;
	uint64_t refaults, pageins, pageouts;
};
/* Counts for the vmspace and for the object; map and family locks are held. */
#define VM_COUNT(vms, obj, field, n) \
	((vms)->st.field += (n), (obj)->st.field += (n))

/* A: atomic */
struct vm_object {
	enum vm_object_kind kind; /* C */
	_Atomic unsigned refs;	  /* A */
	uint64_t len;		  /* C */
	hpa_t base;		  /* C */
	struct vm_family *fam;	  /* C */
	struct vm_chunk **chunk;  /* F */
	struct vm_object *backing, *shadows, *sibling; /* F */
	uint64_t backing_off;			       /* F: bytes */
	struct vm_entry *entries; /* F: that map it, by obj_next */
	uint64_t nresident, nswapped, nzero, nwired; /* F */
	uint64_t ncompressed; /* F: of nswapped */
	uint64_t nheld;			  /* F: holds, wherever they came from */
	struct vm_object_stats st;	  /* F */
	struct vm_queue active, inactive;	     /* F */
	uint32_t clock; /* F: pages paged out so far */
	/* F: the last chunks that got a host page early: their number + 1 */
	uint32_t open[VM_HUGE_OPEN], nopen;
	uint64_t ra_next;  /* F: page after the last read-ahead */
	unsigned ra_pages; /* F: and how many it went for */
	int prot;	/* C: VMM_PROT_* that maps may have; PMAP_PROT_UC */
	int file;	/* C: FILE: host handle, else -1 */
	uint64_t file_off, file_len; /* C: FILE: bytes; of the file itself */
};

/* M: map lock.  start, end, off, obj, vms: constant while in the object's
 * list, which lies under the family lock. */
struct vm_entry {
	struct vm_entry *next;	   /* M */
	struct vm_entry *obj_next; /* F */
	struct vmspace *vms;
	gpa_t start, end;
	struct vm_object *obj;
	uint64_t off;
	int prot, maxprot; /* M */
	gpa_t wired_end;   /* F: pages below it are wired by this entry */
	unsigned flags;	   /* M */
};

struct vmspace {
	struct lock lock;
	struct vm_entry *entries; /* M: sorted by start */
	struct pmap *pmap;	  /* C */
	struct vmspace_config cfg; /* C */
	_Atomic uint64_t held;
	_Atomic uint64_t limit; /* pages; 0: none */
	bool pinned;		/* M: no limit may be set */
	/* M: the host had no 2 MB page: how often not to ask again */
	unsigned huge_wait, huge_back;
	bool swap_failed;	/* M: the last write; said so already */
	gpa_t lost[VM_NLOST];	/* M: pages last said to be lost, or VM_MAXGPA */
	unsigned lost_next;	/* M */
	struct vm_stats st;	/* M */
	struct host_thread *reserve_thread; /* M */
	struct lock_cond reserve_cond;	    /* M */
	bool reserve_quit;		    /* M */
	uint64_t reserve;		    /* M: pages, at most */
	uint64_t reserve_out, reserve_back; /* M: page-outs, refaults so far */
};

/* Has queues; its pages come and go. */
static inline bool
vm_object_pageable(const struct vm_object *obj)
{
	return obj->kind == VM_OBJECT_ANON || obj->kind == VM_OBJECT_FILE;
}

extern struct vm_counts {
	_Atomic uint64_t spaces, entries, objects, families, chunks;
} vm_counts;
#define vm_count(field, n) \
	atomic_fetch_add_explicit(&vm_counts.field, (uint64_t)(int64_t)(n), \
	    memory_order_relaxed)

/* vm_object.c; an object of zero-filled memory, alone in its family */
int vm_object_create_kind(enum vm_object_kind kind, uint64_t len,
    struct vm_object **objp);
/* the family lock is held where obj is given */
void vm_object_lock(struct vm_object *obj);
void vm_object_unlock(struct vm_object *obj);
/* Until some page of the family is no longer busy, or sooner. */
void vm_object_wait(struct vm_object *obj);
struct vm_page *vm_object_page(struct vm_object *obj, uint64_t pindex);
struct vm_page *vm_object_page_make(struct vm_object *obj, uint64_t pindex);
/* Takes the page out of every pmap, those of shadows that see it included;
 * notes dirty and accessed in it. Invalidates unless deferred is given, which
 * then collects the vmspaces. */
#define VM_MAXDEFER 8
struct vm_defer {
	struct pmap *pmap[VM_MAXDEFER];
	unsigned n;
};
void vm_defer_add(struct vm_defer *d, struct pmap *pm);
void vm_defer_finish(struct vm_defer *d);
void vm_object_unmap(struct vm_object *obj, uint64_t pindex, struct vm_defer *d);
/* Gathers and clears accessed bits of all mappings. */
bool vm_object_referenced(struct vm_object *obj, uint64_t pindex,
    struct vm_defer *d);

/* vm_page.c */
void vm_page_give_back(hpa_t hpa, uint64_t len);
void vm_page_enqueue(struct vm_object *obj, struct vm_page *p, bool active);
void vm_page_dequeue(struct vm_object *obj, struct vm_page *p);
void vm_page_set_state(struct vm_object *obj, struct vm_page *p,
    enum vm_page_state state);
/* Gives the page another slot; the old one is the caller's. */
void vm_page_slot(struct vm_object *obj, struct vm_page *p, uint32_t slot);
void vm_page_dirty(struct vm_page *p);
void vm_page_split(struct vm_object *obj, struct vm_chunk *c);
void vm_page_accessed(struct vm_page *p);
void vm_page_mark(struct vm_page *p, unsigned which);
void vm_page_wire(struct vm_object *obj, struct vm_page *p, int delta);
static inline struct vm_chunk *
vm_page_chunk(struct vm_page *p)
{
	return BASE_CONTAINER_OF(p - p->idx, struct vm_chunk, page);
}
static inline uint32_t
vm_page_pindex(struct vm_page *p)
{
	return vm_page_chunk(p)->first + p->idx;
}
static inline hpa_t
vm_page_hpa(const struct vm_object *obj, uint64_t pindex)
{
	return obj->base + pindex * VMM_PAGE_SIZE;
}

/* The page that obj shows at pindex: its own or one behind it; NULL: zeros. */
struct vm_page *vm_object_find(struct vm_object *obj, uint64_t pindex,
    struct vm_object **objp, uint64_t *pindexp);

/* vm_file.c; family locked: reads page i, which has no state, and some that
 * follow. => -EIO, -ENOMEM: nothing changed */
int vm_file_pagein(struct vm_object *obj, uint64_t pindex);

/* vm_map.c, vm_fault.c; with the map locked */
struct vm_entry *vm_entry_lookup(struct vmspace *vms, gpa_t gpa)
    LOCK_REQUIRES(&vms->lock);
/* access 0: of the host, leaves A and D alone. *pagep is wired when asked: for
 * the entry, whose next page it is, or for a hold. */
/*
 * A read from swap, put off until there are no locks.  Given one of these,
 * vm_fault_locked() neither reads nor waits for who does, but gives -EAGAIN.
 */
struct vm_io {
	struct vm_object *o; /* a reference */
	uint64_t i;	     /* page */
	unsigned n;	     /* pages to read; 0: wait for that one */
	uint32_t slot;
	int error;
	bool refault;
};
enum vm_wire { VM_WIRE_NO, VM_WIRE_HOLD, VM_WIRE_ENTRY };
int vm_fault_locked(struct vmspace *vms, gpa_t gpa, int prot, int access,
    enum vm_wire wire, struct vm_io *io, struct vm_object **objp, struct vm_page **pagep)
    LOCK_REQUIRES(&vms->lock);

/*
 * vm_compress.c; the page's family is locked.  store: while the pool takes no
 * more than maxpages. => -ENOSPC, -E2BIG: does not get smaller
 */
int vm_compress_store(struct vm_page *p, const void *data, uint64_t maxpages,
    uint32_t *slotp);
int vm_compress_load(uint32_t slot, void *data);
void vm_compress_free(uint32_t slot);
void vm_compress_moved(uint32_t slot, struct vm_page *p);
/* Pages of the family that were compressed longest ago. => how many, up to n */
unsigned vm_compress_oldest(const struct vm_family *fam, struct vm_page **page,
    unsigned n);
uint64_t vm_compress_pages(void); /* what the pool takes */
static inline bool
vm_slot_compressed(uint32_t slot)
{
	return slot != VM_NIL && (slot & VM_SLOT_POOL) != 0;
}

/* vm_swap.c; free: of either kind */
int vm_swap_alloc(unsigned n, uint32_t *slotp);
void vm_swap_free(uint32_t slot);
int vm_swap_write(void *const *ptr, unsigned n, uint32_t slot);
int vm_swap_read(void *ptr, unsigned n, uint32_t slot);

/* vm_pageout.c: with the map locked, after pages came in */
void vm_pageout_balance(struct vmspace *vms) LOCK_REQUIRES(&vms->lock);
uint64_t vm_pageout_resident(struct vmspace *vms) LOCK_REQUIRES(&vms->lock);
/*
 * Pages that are yet to be written, to slots in a row.  Given one of these,
 * vm_pageout_some() leaves the write to vm_pageout_finish(), which lets go of
 * the map meanwhile.
 */
#define VM_CLUSTER 64u
struct vm_out {
	struct vm_object *o; /* a reference */
	unsigned n;	     /* 0: nothing to do */
	uint32_t slot;
	struct vm_page *page[VM_CLUSTER];
};
/* => how many of them left, or will */
uint64_t vm_pageout_some(struct vmspace *vms, uint64_t want, struct vm_out *out)
    LOCK_REQUIRES(&vms->lock);
void vm_pageout_finish(struct vmspace *vms, struct vm_out *out)
    LOCK_REQUIRES(&vms->lock);
/* Nothing more may come in: over a hard limit, and nothing leaves. */
bool vm_pageout_stuck(struct vmspace *vms) LOCK_REQUIRES(&vms->lock);

/* vm_reserve.c: the page-out thread */
void vm_reserve_init(struct vmspace *vms);
void vm_reserve_fini(struct vmspace *vms);
void vm_reserve_start(struct vmspace *vms) LOCK_REQUIRES(&vms->lock);
void vm_reserve_note(struct vmspace *vms, uint64_t resident)
    LOCK_REQUIRES(&vms->lock);

#endif /* VM_VM_INT_H */
