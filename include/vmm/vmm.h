/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libvmm: the API to hyve's hypervisor core.
 *
 * A struct vmm is either the machine itself, in the process that runs it
 * (vmm_create), or a connection to one that another process runs (vmm_open).
 * Every function returns 0 or -errno unless it says otherwise; vmm_errmsg()
 * then gives one line for people.  Memory sizes and addresses are in bytes.
 */
#ifndef VMM_VMM_H
#define VMM_VMM_H

#include <vmm/types.h>

#ifdef __cplusplus
extern "C" {
#endif

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
};

/*
 * Creates machine `name` (1 to 229 bytes, no '/', no leading '.') and its
 * control socket and nodes in $VMM_DIR, else $XDG_RUNTIME_DIR/vmm, else
 * /run/vmm.
 * => -EEXIST: runs already; -EINVAL; -ENAMETOOLONG; -ENOMEM; -ENOTSUP: engine
 */
int vmm_create(const char *name, const struct vmm_config *cfg,
    struct vmm **vmmp);
/* Attaches to a running machine. => -ENOENT, -ECONNREFUSED, -EACCES */
int vmm_open(const char *name, struct vmm **vmmp);
void vmm_close(struct vmm *vmm); /* the creator's: destroys the machine */
const char *vmm_name(const struct vmm *vmm);
/* The last error of this handle (NULL: of vmm_create/vmm_open on this
 * thread), one line, never NULL. */
const char *vmm_errmsg(const struct vmm *vmm);

/* Ends the machine: every vmm_vcpu_run() returns VMM_EXIT_SUSPEND. The first
 * reason wins. => -EINVAL, -EALREADY */
int vmm_suspend(struct vmm *vmm, enum vmm_suspend how);

/* --- memory ----------------------------------------------------------- */

/* Makes sysmem of `size` bytes (page multiple) and maps it: up to
 * VMM_LOWMEM_LIMIT at 0, the rest at VMM_HIGHMEM_BASE. Once. */
int vmm_setup_memory(struct vmm *vmm, uint64_t size, unsigned flags);
uint64_t vmm_lowmem_size(const struct vmm *vmm);
uint64_t vmm_highmem_size(const struct vmm *vmm);

/* Segments and their maps; checks and errors in vmm-memory(7). */
int vmm_alloc_memseg(struct vmm *vmm, int segid, uint64_t len,
    const char *name);
int vmm_get_memseg(struct vmm *vmm, int segid, uint64_t *lenp,
    char name[VMM_SEGNAME_MAX + 1]);
int vmm_mmap_memseg(struct vmm *vmm, gpa_t gpa, int segid, uint64_t segoff,
    uint64_t len, int prot, unsigned flags);
int vmm_munmap_memseg(struct vmm *vmm, gpa_t gpa, uint64_t len);
/* The map with the smallest gpa >= the one asked for. => -ENOENT */
int vmm_mmap_getnext(struct vmm *vmm, gpa_t gpa, struct vmm_memmap *map);

/*
 * A range of guest memory held for the length of one access by a device
 * model or loader.  Must not cross a 4 KB page (-EINVAL).  ptr is valid until
 * the release; never keep it longer.  A write hold marks the page dirty and
 * drops code translated from it.
 * => -EFAULT: no memory, or prot not allowed there; -EIO: contents lost
 */
int vmm_gpa_hold(struct vmm *vmm, gpa_t gpa, uint64_t len, int prot,
    struct vmm_hold *hold);
void vmm_gpa_release(struct vmm *vmm, struct vmm_hold *hold);
/* Copies of any length across pages, by holds. => 0 or the hold's error;
 * *donep (may be NULL) bytes were copied before it */
int vmm_gpa_read(struct vmm *vmm, gpa_t gpa, void *buf, uint64_t len,
    uint64_t *donep);
int vmm_gpa_write(struct vmm *vmm, gpa_t gpa, const void *buf, uint64_t len,
    uint64_t *donep);

/* --- vCPUs ------------------------------------------------------------ */

int vmm_vcpu_open(struct vmm *vmm, unsigned id, struct vmm_vcpu **vcpup);
void vmm_vcpu_close(struct vmm_vcpu *vcpu);
/*
 * Runs the guest on the calling thread until something the core does not
 * handle itself. HLT and waiting for SIPI are handled inside. exit->size must
 * be set; pass the same record back to complete an exit.
 */
int vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit);
int vmm_vcpu_get_reg(struct vmm_vcpu *vcpu, enum vmm_reg reg, uint64_t *valp);
int vmm_vcpu_set_reg(struct vmm_vcpu *vcpu, enum vmm_reg reg, uint64_t val);
int vmm_vcpu_get_seg(struct vmm_vcpu *vcpu, enum vmm_segreg seg,
    struct vmm_seg *segp);
int vmm_vcpu_set_seg(struct vmm_vcpu *vcpu, enum vmm_segreg seg,
    const struct vmm_seg *segp);

/* --- interrupts and platform ------------------------------------------ */

/* I/O APIC pins 0-23; ISA IRQs 0-15 also reach the 8259 pair. */
int vmm_irq_assert(struct vmm *vmm, unsigned pin);
int vmm_irq_deassert(struct vmm *vmm, unsigned pin);
int vmm_msi(struct vmm *vmm, uint64_t addr, uint32_t data);
int vmm_inject_nmi(struct vmm *vmm, unsigned vcpu);
/* The ACPI power button (fixed event). */
int vmm_power_button(struct vmm *vmm);

#ifdef __cplusplus
}
#endif

#endif /* VMM_VMM_H */
