/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scalars, registers, segments and exits shared by every layer and installed
 * for users of libvmm.  No functions here.
 */
#ifndef VMM_TYPES_H
#define VMM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint64_t gva_t; /* guest virtual address, bytes */
typedef uint64_t gpa_t; /* guest physical address, bytes */

#define VMM_PAGE_SHIFT 12
#define VMM_PAGE_SIZE 4096ul
#define VMM_PAGE_MASK 4095ul

#define VMM_MAXCPU 16 /* vCPUs in a VM */

/* sysmem lies in [0, VMM_LOWMEM_LIMIT) and from VMM_HIGHMEM_BASE on. */
#define VMM_LOWMEM_LIMIT (3ul << 30)
#define VMM_HIGHMEM_BASE (4ul << 30)

/* Fixed segment ids, bhyve's, and limits. */
#define VMM_SYSMEM 0
#define VMM_BOOTROM 1
#define VMM_FRAMEBUFFER 2
#define VMM_PCIROM 3
#define VMM_MAXSEGS 4
#define VMM_MAXMAPS 8
#define VMM_SEGNAME_MAX 15 /* bytes, without the NUL */
#define VMM_NAME_MAX 229   /* of a machine */

/* Of vmm_setup_memory(). */
#define VMM_MEM_F_WIRED 0x1 /* wire all of sysmem (-S) */
#define VMM_MEM_F_INCORE 0x2 /* guest memory in core dumps (-C) */

/* Of vmm_mmap_memseg(); IOMMU is set by the core and only reported. */
#define VMM_MAP_F_WIRED 0x1
#define VMM_MAP_F_IOMMU 0x2

/* Protections of a memory map, and kinds of access. */
#define VMM_PROT_READ 1
#define VMM_PROT_WRITE 2
#define VMM_PROT_EXEC 4
#define VMM_PROT_RW (VMM_PROT_READ | VMM_PROT_WRITE)
#define VMM_PROT_ALL 7

/* Scalar registers, for vmm_vcpu_get_reg() and vmm_vcpu_set_reg(). */
enum vmm_reg {
	/* The first sixteen are in the order of the instruction encoding. */
	VMM_REG_RAX,
	VMM_REG_RCX,
	VMM_REG_RDX,
	VMM_REG_RBX,
	VMM_REG_RSP,
	VMM_REG_RBP,
	VMM_REG_RSI,
	VMM_REG_RDI,
	VMM_REG_R8,
	VMM_REG_R9,
	VMM_REG_R10,
	VMM_REG_R11,
	VMM_REG_R12,
	VMM_REG_R13,
	VMM_REG_R14,
	VMM_REG_R15,
	VMM_REG_RIP,
	VMM_REG_RFLAGS,
	VMM_REG_CR0,
	VMM_REG_CR2,
	VMM_REG_CR3,
	VMM_REG_CR4,
	VMM_REG_CR8,
	VMM_REG_XCR0,
	VMM_REG_DR0,
	VMM_REG_DR1,
	VMM_REG_DR2,
	VMM_REG_DR3,
	VMM_REG_DR6,
	VMM_REG_DR7,
	VMM_REG_EFER,
	VMM_REG_STAR,
	VMM_REG_LSTAR,
	VMM_REG_CSTAR,
	VMM_REG_SFMASK,
	VMM_REG_KERNEL_GS_BASE,
	VMM_REG_SYSENTER_CS,
	VMM_REG_SYSENTER_ESP,
	VMM_REG_SYSENTER_EIP,
	VMM_REG_PAT,
	VMM_REG_TSC,
	VMM_REG_TSC_AUX,
	VMM_REG_APIC_BASE,
	VMM_REG_INTR_SHADOW, /* 1: interrupts blocked by STI or MOV SS */
	VMM_REG_NMI_BLOCKED, /* 1: until the next IRET */
	VMM_REG_COUNT
};

/* Segment and table registers, in the order of the instruction encoding. */
enum vmm_segreg {
	VMM_SEG_ES,
	VMM_SEG_CS,
	VMM_SEG_SS,
	VMM_SEG_DS,
	VMM_SEG_FS,
	VMM_SEG_GS,
	VMM_SEG_LDTR,
	VMM_SEG_TR,
	VMM_SEG_GDTR, /* base and limit only */
	VMM_SEG_IDTR, /* base and limit only */
	VMM_SEG_COUNT
};

/*
 * A segment cache.  access is the second descriptor word shifted right by
 * eight, as VMX keeps it: type 0-3, S 4, DPL 5-6, P 7, AVL 12, L 13, D/B 14,
 * G 15; bit 16 set means unusable (null).  limit is in bytes, expanded.
 */
struct vmm_seg {
	uint64_t base;
	uint32_t limit;
	uint32_t access;
	uint16_t selector;
	uint16_t reserved[3];
};

#define VMM_SEG_TYPE(a) ((a) & 0xf)
#define VMM_SEG_S (1u << 4)
#define VMM_SEG_DPL(a) (((a) >> 5) & 3)
#define VMM_SEG_P (1u << 7)
#define VMM_SEG_L (1u << 13)
#define VMM_SEG_DB (1u << 14)
#define VMM_SEG_G (1u << 15)
#define VMM_SEG_UNUSABLE (1u << 16)

/* Every register of a vCPU, as of one moment. */
struct vmm_regs {
	uint32_t size; /* of this record, set by the caller */
	uint32_t reserved;
	uint64_t reg[VMM_REG_COUNT];
	struct vmm_seg seg[VMM_SEG_COUNT];
};

/* One map of a memory segment. */
struct vmm_memmap {
	uint32_t size; /* of this record, set by the caller */
	int32_t segid;
	gpa_t gpa;
	uint64_t len, segoff; /* bytes */
	uint32_t prot, flags; /* VMM_PROT_*, VMM_MAP_F_* */
};

/* A page of guest memory held for one access; see vmm_gpa_hold(). */
struct vmm_hold {
	void *ptr;
	void *cookie[3];
};

/* What is known of a page of guest memory; see vmm_page_states(). */
#define VMM_PG_MAP 0x1	       /* a memory map covers it */
#define VMM_PG_RESIDENT 0x2    /* in the host's memory */
#define VMM_PG_SWAPPED 0x4     /* in swap, or compressed */
#define VMM_PG_ZERO 0x8	       /* known to be zeros, without storage */
#define VMM_PG_COMPRESSED 0x10
#define VMM_PG_SHARED 0x20     /* belongs to an object behind: copied on write */
#define VMM_PG_WIRED 0x40      /* cannot be paged out */
#define VMM_PG_ENTERED 0x80    /* in the nested tables */
#define VMM_PG_LARGE 0x100     /* there by a large leaf */
#define VMM_PG_ACCESSED 0x200  /* since the last sample or aging */
#define VMM_PG_DIRTY 0x400     /* differs from its swap slot, or from zeros */
#define VMM_PG_ACTIVE 0x800    /* which queue of page-out */
#define VMM_PG_INACTIVE 0x1000
#define VMM_PG_DEVICE 0x2000   /* device memory */
#define VMM_PG_SLOT 0x4000     /* swap holds a copy of it */

/* One entry of the nested tables. */
struct vmm_pte {
	uint64_t raw;
	uint64_t hpa;	/* of the table below or the page: offset in the direct map */
	uint8_t level;	/* 4 at the root */
	uint8_t leaf;	/* 1: maps memory, 0: names a table, or nothing */
	uint8_t prot;	/* VMM_PROT_*: what it allows */
	uint8_t hwprot; /* what the walker lets through now; A/D emulation
			 * keeps some back */
	uint8_t accessed, dirty;
	uint8_t reserved[2];
};

/* Everything about one page. */
struct vmm_page {
	uint32_t size;	/* of this record, set by the caller */
	uint32_t state; /* VMM_PG_* */
	gpa_t gpa;
	uint64_t offset; /* in its segment, bytes */
	int32_t segid;	 /* -1: no map there */
	uint32_t prot;	 /* of the map */
	uint64_t hpa;	 /* resident: offset in the direct map */
	uint64_t slot;	 /* VMM_PG_SLOT: which */
	uint32_t wires;	 /* holds and wired maps */
	uint32_t npte;
	uint64_t leaf; /* bytes of the leaf that maps it, or 0 */
	struct vmm_pte pte[4];
};

/* 2 MB of guest memory: a bit for each page, the lowest first. */
struct vmm_block {
	gpa_t gpa;
	uint64_t page[8];
};

/* What a machine, a segment or a map has; counts of pages. */
struct vmm_ledger {
	uint32_t size; /* of this record, set by the caller */
	int32_t segid; /* -1: the machine */
	uint64_t pages; /* its length */
	uint64_t limit; /* of what is resident; 0: none, or not the machine's */
	uint64_t resident, wired, held, swapped, compressed, zero, shared;
	uint64_t entered, superpages; /* in the nested tables */
	uint64_t faults_zero, faults_swap, faults_file, faults_cow;
	uint64_t faults_prot, refaults, pageins, pageouts;
};

/* A count as it is kept, and as a walk finds it: vmm_recount(). */
struct vmm_count {
	char name[48];
	uint64_t counted, found;
};

/* A named counter; names are listed in vmmctl(1). */
#define VMM_STATNAME_MAX 47
struct vmm_stat {
	char name[VMM_STATNAME_MAX + 1];
	uint64_t value;
};

/* Why a vCPU stopped running guest code. */
enum vmm_exit_reason {
	VMM_EXIT_NONE,
	VMM_EXIT_INTR,	 /* kicked; nothing to do for the guest */
	VMM_EXIT_IO,	 /* port access that the core did not handle */
	VMM_EXIT_MMIO,	 /* memory access to a gpa with no memory behind it */
	VMM_EXIT_HLT,	 /* halted with interrupts possible */
	VMM_EXIT_SUSPEND, /* the VM ends: see suspend.how */
	VMM_EXIT_RDMSR,	 /* unknown MSR; complete with val or inject #GP */
	VMM_EXIT_WRMSR,
	VMM_EXIT_MEMFAIL, /* page contents cannot be had: fail closed */
	VMM_EXIT_ERROR,	 /* the engine cannot go on; vmm_errmsg() says why */
};

/* Why a VM ends; also the exit status of hyve, as bhyve's. */
enum vmm_suspend {
	VMM_SUSPEND_RESET = 0,
	VMM_SUSPEND_POWEROFF = 1,
	VMM_SUSPEND_HALT = 2,
	VMM_SUSPEND_TRIPLEFAULT = 3,
	VMM_SUSPEND_ERROR = 4,
	VMM_SUSPEND_DESTROY = 5,
	VMM_SUSPEND_NONE = -1,
};

struct vmm_exit {
	uint32_t size; /* of this record, set by the caller */
	uint32_t reason;
	uint64_t rip; /* of the instruction that exits */
	union {
		struct {
			uint16_t port;
			uint8_t bytes; /* 1, 2, 4 */
			uint8_t in;    /* 1: fill data before the next run */
			uint32_t data;
		} io;
		struct {
			gpa_t gpa;
			uint8_t bytes; /* 1, 2, 4, 8 */
			uint8_t write;
			uint64_t data; /* reads: fill before the next run */
		} mmio;
		struct {
			uint32_t msr;
			uint8_t fault; /* set to 1: inject #GP(0) */
			uint64_t val;
		} msr;
		struct {
			int32_t how;   /* enum vmm_suspend */
			int32_t status; /* of the debug-exit port, or -1 */
		} suspend;
		struct {
			gpa_t gpa;
			int32_t error; /* -errno */
		} memfail;
		uint64_t pad[8];
	} u;
};

#endif /* VMM_TYPES_H */
