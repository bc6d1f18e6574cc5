/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pmap: nested page tables in the architectural formats (EPT: SDM vol. 3
 * 29.3; x86 as AMD nested paging reads them: APM vol. 2 15.25), the
 * machine-dependent half of guest memory.
 *
 * Two kinds of user:
 *  - vm enters, removes and protects mappings, and asks for A/D state, under
 *    its own locks; pmap takes LOCK_RANK_PMAP below them.
 *  - an engine without a hardware walker calls pmap_walk(), which reads the
 *    tables as hardware would: without a lock, setting A/D bits atomically,
 *    and only between pmap_activate() and pmap_deactivate().  Whatever it
 *    caches from a walk must be dropped when pmap_generation() moves.
 *
 * hpa is an offset into the direct map: base/host.h, PHYS_TO_DMAP().
 */
#ifndef PMAP_PMAP_H
#define PMAP_PMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "vmm/types.h"

typedef uint64_t hpa_t;
typedef uint64_t pt_entry_t;

struct pmap;

enum pmap_type { PMAP_PT_EPT, PMAP_PT_X86 };

#define PMAP_F_AD_EMUL 0x1   /* walker has no A/D bits: emulate them */
#define PMAP_F_2M 0x2	     /* walker takes 2 MB leaves */
#define PMAP_F_1G 0x4	     /* walker takes 1 GB leaves */
#define PMAP_F_EXEC_ONLY 0x8 /* EPT walker takes X without R */

/* Upward: makes a vCPU that executes in the guest leave it soon. */
struct pmap_callbacks {
	void (*kick)(void *arg, unsigned vcpu);
};

int pmap_create(enum pmap_type type, unsigned flags,
    const struct pmap_callbacks *cb, void *arg,
    struct pmap **pmapp) BASE_MUST_CHECK;
void pmap_destroy(struct pmap *pm);

/* hpa of the root table, as a walker's register would hold it. */
hpa_t pmap_root(const struct pmap *pm);

/* --- the walker's side ------------------------------------------------ */

struct pmap_walk {
	hpa_t hpa;	/* of the byte asked for */
	uint64_t size;	/* bytes of the leaf: 4 KB, 2 MB, 1 GB */
	uint8_t prot;	/* VMM_PROT_*: what the leaf allows the walker now,
			 * i.e. without WRITE while the dirty bit is clear */
	uint8_t qual;	/* on failure: EPT-violation bits 0-2 access, 3-5
			 * effective R/W/X of the entries */
};

/*
 * Translates gpa for an access of one kind (VMM_PROT_READ, WRITE or EXEC) as
 * a hardware walker does, setting accessed (and, for WRITE, dirty) bits.
 * => lock-free; only while active on the calling vCPU
 * => 0, or -EFAULT for a violation (w->qual filled): leave the guest
 *    (pmap_deactivate), call the fault routine of the layer above, try again
 */
int pmap_walk(struct pmap *pm, gpa_t gpa, int access, struct pmap_walk *w);

/*
 * A vCPU joins the set that pmap_invalidate() kicks and waits for, then reads
 * the generation.  Order matters: join before reading.
 * => returns the generation that the vCPU's cached translations must have
 */
uint64_t pmap_activate(struct pmap *pm, unsigned vcpu);
void pmap_deactivate(struct pmap *pm, unsigned vcpu);
/*
 * Called by an active vCPU at a point where it holds no translation outside
 * its TLB: acknowledges the invalidations so far.
 * => returns the current generation; a caller whose TLB is older flushes
 *    BEFORE it calls this with flushed=that generation
 */
uint64_t pmap_generation(const struct pmap *pm);
void pmap_ack(struct pmap *pm, unsigned vcpu, uint64_t flushed);

/* --- vm's side --------------------------------------------------------- */

struct pmap_stats {
	uint64_t resident; /* 4 KB pages mapped */
	uint64_t pt_pages; /* pages of tables, spares and counts included */
	uint64_t large[2]; /* 2 MB and 1 GB leaves */
	uint64_t promotions, demotions, promote_fails;
	uint64_t invalidations, kicks;
};
void pmap_stats_get(struct pmap *pm, struct pmap_stats *st);

#define PMAP_PROT_UC 0x100 /* with prot: the host memory is not cached */
/*
 * Enters one 4 KB page with exactly prot, for an access that is about to come:
 * its accessed bit is set, for VMM_PROT_WRITE its dirty bit.  access 0: none.
 * Where that makes 512 neighbours alike they become one large leaf.
 * => 0; -ENOMEM, -EFAULT: nothing changed
 * => *promotedp (may be NULL): size of the large leaf that came about, or 0
 * => another page there before must have been removed: KASSERT
 */
int pmap_enter(struct pmap *pm, gpa_t gpa, hpa_t hpa, int prot, int access,
    uint64_t *promotedp) BASE_MUST_CHECK;
/*
 * Emulated A/D bits: resolves a fault that only they caused.
 * => 0: walk again; -EFAULT: another cause (always so with hardware bits)
 */
int pmap_emulate_accessed_dirty(struct pmap *pm, gpa_t gpa,
    int access) BASE_MUST_CHECK;

/* Called for each page that is taken out, under the pmap's lock. */
typedef void pmap_removed_fn(void *arg, gpa_t gpa, hpa_t hpa, bool accessed,
    bool dirty);
/*
 * Take mappings out, and rights away.  The *_deferred forms leave out the
 * invalidation, so that one serves for many: => whether one is needed before
 * the memory may be reused or the change is relied upon.
 */
void pmap_remove(struct pmap *pm, gpa_t gpa, uint64_t len, pmap_removed_fn *fn,
    void *arg);
bool pmap_remove_deferred(struct pmap *pm, gpa_t gpa, uint64_t len,
    pmap_removed_fn *fn, void *arg) BASE_MUST_CHECK;
void pmap_protect(struct pmap *pm, gpa_t gpa, uint64_t len, int prot);
bool pmap_protect_deferred(struct pmap *pm, gpa_t gpa, uint64_t len,
    int prot) BASE_MUST_CHECK;

/*
 * Accessed and dirty bits of the page at gpa.  The clearing forms are not
 * seen by a vCPU that caches the translation until the next invalidation.
 * ts_referenced on a large leaf clears the bit only for one page in 512, so
 * that one pass over them all clears it once.
 * => 0; or, if it was accessed, the bytes of the large leaf that lost its bit,
 *    else 4096
 */
bool pmap_is_referenced(struct pmap *pm, gpa_t gpa);
uint64_t pmap_ts_referenced(struct pmap *pm, gpa_t gpa);
bool pmap_is_modified(struct pmap *pm, gpa_t gpa);
/* => whether it was dirty; a large leaf is demoted first */
bool pmap_clear_modify(struct pmap *pm, gpa_t gpa);

/* Tries to make the 2 MB (then 1 GB) around gpa one leaf. => its size, or 0 */
uint64_t pmap_promote(struct pmap *pm, gpa_t gpa);

bool pmap_extract(struct pmap *pm, gpa_t gpa, hpa_t *hpap, int *protp);
/* The entries that translate gpa, from the root down to a leaf or an entry that
 * is not valid; lock-free, a look only. => how many, up to four */
unsigned pmap_entries(struct pmap *pm, gpa_t gpa, pt_entry_t pte[4]);
/* What entry e, found at that level, says. */
void pmap_decode(const struct pmap *pm, unsigned level, pt_entry_t e,
    struct vmm_pte *d);
/* Every translation cached before the call is gone when it returns.
 * => the caller is not active in pm itself */
void pmap_invalidate(struct pmap *pm);

/* One block of 2 MB that has mappings: a bit for each of its 4 KB pages that is
 * in the range asked for. */
struct pmap_block {
	gpa_t gpa;
	uint64_t mapped[8], accessed[8], dirty[8];
	uint64_t large; /* bytes of the large leaf that maps it, or 0 */
};
#define PMAP_LOOK_ACCESSED 0x1
#define PMAP_LOOK_DIRTY 0x2
/*
 * Calls fn, under the pmap's lock, for each block with mappings in the range;
 * what it sees is from before the bits named by clear were cleared.  The
 * accessed bit of a large leaf is cleared by a call that covers the whole leaf.
 * => true: bits were cleared; they are set again only after an invalidation
 */
typedef void pmap_look_fn(void *arg, const struct pmap_block *b);
bool pmap_look(struct pmap *pm, gpa_t gpa, uint64_t len, unsigned clear,
    pmap_look_fn *fn, void *arg);
/* Adds the pages and large leaves that map the range to st's counts; a large
 * leaf counts where it begins. */
void pmap_count(struct pmap *pm, gpa_t gpa, uint64_t len, struct pmap_stats *st);
/* Counts st's resident, pt_pages and large anew from the tables; counted gets
 * what pmap_stats_get() says at the same moment. */
void pmap_recount(struct pmap *pm, struct pmap_stats *found,
    struct pmap_stats *counted);
/* Walks everything and asserts PMAP-1 to PMAP-6 (pmap.c). */
void pmap_check(struct pmap *pm);

#endif /* PMAP_PMAP_H */
