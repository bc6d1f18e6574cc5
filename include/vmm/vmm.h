/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmm: the API to hyve's hypervisor core.  libvmm(3) is the long form.
 *
 * A struct vmm is either the machine itself, in the process that runs it
 * (vmm_create), or a connection to one that another process runs (vmm_open).
 * Functions marked [creator] give -ENOTSUP on a connection.
 *
 * Every function returns 0 or -errno unless it says otherwise; vmm_errmsg()
 * then gives one line for people.  Out-parameters are written on success only.
 * Memory sizes and addresses are in bytes.  Records that begin with `size`
 * want it set to sizeof the record by the caller, else -EINVAL.
 *
 * Threads: every function may be called from any thread but vmm_close(), which
 * must be the last call on a handle, and vmm_vcpu_run(), which one thread at a
 * time runs for each vCPU.  Calls on one connection are serialised.
 */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include <vmm/types.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct vmm;
struct vmm_vcpu;

/* --- life ------------------------------------------------------------- */

struct vmm_config {
	uint32_t size; /* of this record */
	uint32_t ncpu; /* 1..VMM_MAXCPU */
	const char *engine; /* "auto", "soft", "kvm"; NULL: auto */
	const char *pmap;   /* "ept", "x86"; NULL: ept */
	uint64_t code_cache; /* bytes of translated code, 0: default */
	const char *perf_map; /* perf map file, NULL: none */
	uint32_t flags;	      /* VMM_CONFIG_* */
	uint32_t reserved;
};
#define VMM_CONFIG_NO_TRANSLATE 0x1 /* soft: one instruction at a time, in C */
#define VMM_CONFIG_NO_CONTROL 0x2 /* no control socket, no nodes, no name */
#define VMM_CONFIG_AD_EMULATED 0x4 /* nested tables without A/D bits of their
				    * own: software bits, as for old walkers */
#define VMM_CONFIG_NO_LARGE 0x8 /* nested tables of 4 KB pages only */

/*
 * Creates machine `name` (1 to VMM_NAME_MAX bytes, no '/', no leading '.',
 * no control characters) and its directory with the control socket in
 * $VMM_DIR, else $XDG_RUNTIME_DIR/vmm, else /run/vmm.
 * => -EEXIST: runs already; -EINVAL; -ENAMETOOLONG; -ENOMEM; -ENOTSUP: engine;
 *    -EACCES, -EPERM: that directory
 */
int vmm_create(const char *name, const struct vmm_config *cfg,
    struct vmm **vmmp);
/* Attaches to a running machine. => -ENOENT: none of that name; -EACCES;
 * -EPROTONOSUPPORT: it was made by another version */
int vmm_open(const char *name, struct vmm **vmmp);
/* The creator's handle: destroys the machine, removes its directory; no
 * vmm_vcpu_run() may be under way.  A connection: nothing but itself. */
void vmm_close(struct vmm *vmm);
const char *vmm_name(const struct vmm *vmm);
/* What went wrong in the calling thread's last failed call (on this handle;
 * NULL: any), one line without newline, never NULL. */
const char *vmm_errmsg(const struct vmm *vmm);
/* How the engine was picked, one line. [creator] */
const char *vmm_engine_reason(const struct vmm *vmm);
const char *vmm_version(void);

struct vmm_info {
	uint32_t size; /* of this record */
	uint32_t ncpu;
	int32_t pid;   /* of the process that runs it */
	int32_t state; /* VMM_SUSPEND_NONE while it runs, else why it ended */
	uint64_t lowmem, highmem; /* bytes of sysmem */
	uint64_t resident;	  /* bytes of guest memory on the host */
	uint64_t uptime_ns;
	uint64_t tsc_hz; /* of the guest */
	char engine[16], pmap[16];
};
int vmm_get_info(struct vmm *vmm, struct vmm_info *info);

/*
 * Calls fn with the name of each running machine in the directory; stops when
 * fn returns non-zero, and returns that.  Removes what dead machines left.
 */
int vmm_list(int (*fn)(void *arg, const char *name), void *arg);

/* Ends the machine: every vmm_vcpu_run() returns VMM_EXIT_SUSPEND. The first
 * reason wins. => -EINVAL, -EALREADY */
int vmm_suspend(struct vmm *vmm, enum vmm_suspend how);
/* Makes a suspended machine ready for another boot: vCPUs and platform reset,
 * maps of device memory dropped, sysmem and segments kept. [creator]
 * => -EBUSY: not suspended, or a vmm_vcpu_run() is under way */
int vmm_reinit(struct vmm *vmm);

/* --- memory ----------------------------------------------------------- */

/* Makes sysmem of `size` bytes (page multiple) and maps it: up to
 * VMM_LOWMEM_LIMIT at 0, the rest at VMM_HIGHMEM_BASE. Once. [creator]
 * flags: VMM_MEM_F_*
 * => -EINVAL: size 0, not of whole pages or beyond the physical address
 *    space; -EEXIST: again; -ENOMEM */
int vmm_setup_memory(struct vmm *vmm, uint64_t size, unsigned flags);
uint64_t vmm_lowmem_size(const struct vmm *vmm);
uint64_t vmm_highmem_size(const struct vmm *vmm);

/*
 * Segments and their maps; all checks and errors in vmm-memory(7).  A segment
 * with a non-empty name is device memory: a node of that name appears beside
 * the control socket, which other processes may map. [creator]
 */
int vmm_alloc_memseg(struct vmm *vmm, int segid, uint64_t len,
    const char *name);
/* The same for device memory alone, again with the same name and length too;
 * mode: of the node, out of 0666. [creator]
 * => -EINVAL: no name, bad mode, or the segment is another one */
int vmm_create_devmem(struct vmm *vmm, int segid, const char *name,
    uint64_t len, unsigned mode);
/* An unused id gives length 0. => -EINVAL: no such id */
int vmm_get_memseg(struct vmm *vmm, int segid, uint64_t *lenp,
    char name[VMM_SEGNAME_MAX + 1]);
/* => bytes of the segment that are resident */
int vmm_memseg_resident(struct vmm *vmm, int segid, uint64_t *bytesp);
/* prot: VMM_PROT_*; flags: VMM_MAP_F_WIRED. Stops the vCPUs for a moment;
 * allowed while they run. [creator] */
int vmm_mmap_memseg(struct vmm *vmm, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags);
int vmm_munmap_memseg(struct vmm *vmm, gpa_t gpa, uint64_t len);
/* The map with the smallest gpa >= the one asked for. => -ENOENT */
int vmm_mmap_getnext(struct vmm *vmm, gpa_t gpa, struct vmm_memmap *map);
/* Opens the node of a device memory segment, for mmap at offset 0.
 * oflag: O_RDONLY or O_RDWR. => a descriptor, or -errno */
int vmm_open_devmem(struct vmm *vmm, const char *name, int oflag);

/*
 * Swap for all machines of this process: a file without a name in dir, at most
 * bytes long.  Once, before the first limit.  [process]
 * => 0; -EINVAL: less than a page; -EBUSY: there is some; -ENOMEM; why the file
 *    cannot be made: -ENOENT, -EACCES, -ENOSPC, -EOPNOTSUPP ...
 */
int vmm_swap_on(const char *dir, uint64_t bytes);
/*
 * Pages are compressed in memory before they go to swap, for all machines of
 * this process.  That takes at most bytes, and a quarter of a limit, of which it
 * is a part.  Once.  [process]
 * => -EINVAL: less than 64 KB; -EBUSY: it is so; -ENOMEM
 */
int vmm_compress_on(uint64_t bytes);
/*
 * Anonymous guest memory that may be resident, in bytes; 0: no limit.  What is
 * over it is paged out before the call returns.  Where swap is full an event is
 * logged, and a vCPU that needs more memory waits: VMM_EXIT_MEMFAIL with
 * -ENOSPC, to be run again later.
 * => -EINVAL: not 0 and less than 1 MB; -ENXIO: no swap (vmm_swap_on);
 *    -EBUSY: memory is wired, by VMM_MEM_F_WIRED or for passthrough
 */
int vmm_set_limit(struct vmm *vmm, uint64_t bytes);
int vmm_get_limit(struct vmm *vmm, uint64_t *bytesp);
/* Pages out about that many bytes now, least recently used first; *donep is how
 * many left. [creator] => -ENXIO: no swap (vmm_swap_on) */
int vmm_reclaim(struct vmm *vmm, uint64_t bytes, uint64_t *donep);
/* "512", "512M", "2g": below 1 MB a bare number counts megabytes, as
 * bhyve's vm_parse_memsize(). Sets no vmm_errmsg(). => 0, -EINVAL, -ERANGE */
int vmm_parse_memsize(const char *s, uint64_t *bytesp);

/*
 * A range of guest memory held for the length of one access by a device
 * model or loader.  Must not cross a 4 KB page (-EINVAL).  ptr is valid until
 * the release; never keep it longer.  A write hold marks the page dirty and
 * drops code translated from it. [creator]
 * => -EFAULT: no memory, or prot not allowed there; -EIO: contents lost
 */
int vmm_gpa_hold(struct vmm *vmm, gpa_t gpa, uint64_t len, int prot,
    struct vmm_hold *hold);
void vmm_gpa_release(struct vmm *vmm, struct vmm_hold *hold);
/* Copies of any length across pages, by holds. => 0 or the hold's error;
 * *donep (may be NULL) bytes were copied before it, also on failure */
int vmm_gpa_read(struct vmm *vmm, gpa_t gpa, void *buf, uint64_t len,
    uint64_t *donep);
int vmm_gpa_write(struct vmm *vmm, gpa_t gpa, const void *buf, uint64_t len,
    uint64_t *donep);
/*
 * The guest needs nothing of [gpa, gpa+len) any more, as a balloon or free page
 * reporting says: the host has it back on return, and the guest reads zeros when
 * it touches it again.  Held and wired pages stay as they are. [creator]
 * => -EINVAL: empty, not of whole pages; -EFAULT: not within one writable map of
 *    sysmem; -ENOMEM: nothing was given back
 */
int vmm_mem_discard(struct vmm *vmm, gpa_t gpa, uint64_t len);
/* The nested table entries that translate gpa, from the top, up to four; the
 * last is a leaf or not valid.  A look without stopping anything. */
int vmm_get_gpa_pmap(struct vmm *vmm, gpa_t gpa, uint64_t pte[4],
    unsigned *countp);

/* --- looking into memory ------------------------------------------------ */

/* What the machine (segid -1) or a segment has: counts that are kept, so this
 * costs nothing.  Holds, faults and page-outs are counted for segments, in the
 * ledger of a map they are 0; that one walks the map's pages.
 * => -EINVAL: no such segment; -ENOENT: no map begins at gpa */
int vmm_get_ledger(struct vmm *vmm, int segid, struct vmm_ledger *l);
int vmm_get_map_ledger(struct vmm *vmm, gpa_t gpa, struct vmm_ledger *l);
/* Everything about the page of gpa, the nested table entries on the way to it
 * included.  segid is -1 where no map is. */
int vmm_get_page(struct vmm *vmm, gpa_t gpa, struct vmm_page *pg);
/* The state (VMM_PG_*) of n pages from gpa on, which is a page's address.
 * ACCESSED is a bit of the nested tables here: since the last sample, or since
 * page-out looked. */
int vmm_page_states(struct vmm *vmm, gpa_t gpa, uint64_t n, uint16_t *state);
/*
 * The pages that were written (by the guest, or through holds by device models)
 * or accessed by the guest since this client's last call of the same function;
 * before its first: all that was ever written, if not more, or accessed since
 * anybody looked.  A client is a name of up to 31 bytes that the machine keeps;
 * up to 8 in a process are independent of each other.  All pages are taken at
 * one moment, without stopping the guest.  A large leaf is accessed as a whole.
 *
 * fn, which may be NULL, is called for each 2 MB with such pages; 2 MB of which
 * two maps have a part come twice.  It returns non-zero to stop.
 * => what fn returned; -EMFILE: 8 clients already; -EINVAL: name; -ESTALE: the
 *    same client was used meanwhile, and its pages are lost to this call
 */
typedef int vmm_block_fn(void *arg, const struct vmm_block *b);
int vmm_dirty(struct vmm *vmm, const char *client, vmm_block_fn *fn, void *arg,
    uint64_t *pagesp);
int vmm_accessed(struct vmm *vmm, const char *client, vmm_block_fn *fn,
    void *arg, uint64_t *pagesp);
int vmm_client_close(struct vmm *vmm, const char *client); /* => -ENOENT */
/* Counts all pages and table entries anew; what differs from the count that is
 * kept is a bug.  Fills up to n records; *countp: how many there are. */
int vmm_recount(struct vmm *vmm, struct vmm_count *c, unsigned n,
    unsigned *countp);

/* --- vCPUs ------------------------------------------------------------ */

int vmm_vcpu_open(struct vmm *vmm, unsigned id, struct vmm_vcpu **vcpup);
void vmm_vcpu_close(struct vmm_vcpu *vcpu);
/*
 * Runs the guest on the calling thread until something the core does not
 * handle itself. HLT and waiting for SIPI are handled inside. exit->size must
 * be set, and exit->reason VMM_EXIT_NONE for the first run; pass the same
 * record back to complete an exit. [creator]
 * => -EBUSY: another thread runs it
 */
int vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit);
/* Makes vmm_vcpu_run() return VMM_EXIT_INTR soon. [creator] */
int vmm_vcpu_kick(struct vmm_vcpu *vcpu);
/*
 * Registers.  A running vCPU is stopped at an instruction boundary for the
 * length of the call.
 */
int vmm_vcpu_get_reg(struct vmm_vcpu *vcpu, enum vmm_reg reg, uint64_t *valp);
int vmm_vcpu_set_reg(struct vmm_vcpu *vcpu, enum vmm_reg reg, uint64_t val);
int vmm_vcpu_get_seg(struct vmm_vcpu *vcpu, enum vmm_segreg seg,
    struct vmm_seg *segp);
int vmm_vcpu_set_seg(struct vmm_vcpu *vcpu, enum vmm_segreg seg,
    const struct vmm_seg *segp);
/* All of them as of one moment. */
int vmm_vcpu_get_regs(struct vmm_vcpu *vcpu, struct vmm_regs *regs);
/* Guest linear to physical address by the guest's tables, without setting
 * bits in them. access: one VMM_PROT_*. => -EFAULT: not mapped so */
int vmm_vcpu_gva_to_gpa(struct vmm_vcpu *vcpu, gva_t gva, int access,
    gpa_t *gpap);

/* Names as in the manuals ("rax", "gdtr"), NULL beyond the end. */
const char *vmm_reg_name(enum vmm_reg reg);
const char *vmm_segreg_name(enum vmm_segreg seg);

/* --- interrupts and platform ------------------------------------------ */

/* I/O APIC pins 0-23; ISA IRQs 0-15 also reach the 8259 pair. [creator] */
int vmm_irq_assert(struct vmm *vmm, unsigned pin);
int vmm_irq_deassert(struct vmm *vmm, unsigned pin);
int vmm_msi(struct vmm *vmm, uint64_t addr, uint32_t data);
int vmm_inject_nmi(struct vmm *vmm, unsigned vcpu);
/*
 * Writes the tables by which a guest finds its platform (ACPI) into guest
 * memory, and says where they are.  After vmm_setup_memory(), before the guest
 * runs. [creator]
 */
#define VMM_MAXRANGES 8
struct vmm_firmware {
	uint32_t size; /* of this record */
	uint32_t nrange;
	gpa_t rsdp; /* ACPI root pointer */
	struct {
		gpa_t gpa;
		uint64_t len;
		uint32_t type; /* as in E820: 2 reserved, 3 ACPI, 4 NVS */
		uint32_t reserved;
	} range[VMM_MAXRANGES]; /* not for the guest's use as RAM */
};
int vmm_setup_firmware(struct vmm *vmm, struct vmm_firmware *fw);
/* The ACPI power button (fixed event). => -EAGAIN: the guest does not listen
 * for it */
int vmm_power_button(struct vmm *vmm);

/* --- statistics ------------------------------------------------------- */

/*
 * Counters of one vCPU, or of the machine (vcpu -1).  Fills up to n records of
 * st; *countp says how many there are, which may be more.
 */
int vmm_get_stats(struct vmm *vmm, int vcpu, struct vmm_stat *st, unsigned n,
    unsigned *countp);
/* What a counter of the core counts, NULL: an engine's or the platform's; and
 * whether it is a value of the moment rather than one that only grows. */
const char *vmm_stat_help(const char *name, bool *gaugep);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif /* VMM_VMM_H */
