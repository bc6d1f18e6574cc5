/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Boots a kernel file directly: Linux bzImage (64-bit boot protocol), ELF by
 * PVH, ELF or raw image by multiboot 1.  Uses the public API only.
 *
 *	memory must be set up (vmm_setup_memory) and never have been written;
 *	bsp must not be running.
 *
 * Firmware tables are not written here: say with `reserved` where they lie
 * and with `rsdp` where they start, the guest is told through its memory map.
 */
#ifndef LOADER_LOADER_H
#define LOADER_LOADER_H

#include <stddef.h>
#include <stdint.h>

#include "vmm/vmm.h"

/* Kinds of memory in the map given to the guest: E820's. */
#define LOADER_MEM_RAM 1
#define LOADER_MEM_RESERVED 2
#define LOADER_MEM_ACPI 3
#define LOADER_MEM_NVS 4

struct loader_range {
	gpa_t gpa;
	uint64_t len;
	uint32_t type; /* LOADER_MEM_* */
};

#define LOADER_MAXRESERVED 16
#define LOADER_MAXMODULES 16

struct loader_module {
	const char *path;
	const char *args; /* multiboot: after the path in its string; or NULL */
};

struct loader_config {
	const char *kernel;
	/* Initial RAM disks (Linux gets them one after the other in memory, as
	 * one) or multiboot/PVH modules. */
	const struct loader_module *module;
	size_t nmodule; /* up to LOADER_MAXMODULES */
	const char *append; /* kernel command line, NULL: empty */
	gpa_t rsdp;	    /* ACPI root pointer, 0: none */
	/* Never handed to the guest as RAM and never loaded into. */
	const struct loader_range *reserved;
	size_t nreserved; /* up to LOADER_MAXRESERVED */
};

/*
 * Loads and places everything and sets the registers of bsp to the entry
 * state of the protocol.
 * => 0, or -errno with one line in err that names the file and the reason
 */
int loader_load(struct vmm *vmm, struct vmm_vcpu *bsp,
    const struct loader_config *cfg, char *err, size_t errlen);

#endif /* LOADER_LOADER_H */
