/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Carries a boot plan out: reads the files, copies the pieces into guest
 * memory, sets the registers.  The kernel is read whole, because planning
 * needs it at hand; modules may be large and are streamed.
 */
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "loader/plan.h"

#define LOADER_KERNEL_MAX (1ul << 30)
#define LOADER_CHUNK (256ul << 10)

struct loader_files {
	uint8_t *kernel;
	int module[LOADER_MAXMODULES]; /* descriptors */
	unsigned nmodule;
};

/* => fd of a regular file and its length, or -errno with err set */
static int
loader_open(const char *path, uint64_t *lenp, char *err, size_t errlen)
{
	struct stat st;
	int fd, error;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		error = -errno;
		snprintf(err, errlen, "%s: %s", path, strerror(-error));
		return error;
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		close(fd);
		snprintf(err, errlen, "%s: not a regular file", path);
		return -EINVAL;
	}
	*lenp = (uint64_t)st.st_size;
	return fd;
}

/* => 0, or -errno; -EIO also if the file ends early */
static int
loader_read(int fd, void *buf, uint64_t off, uint64_t len)
{
	uint8_t *b = buf;

	while (len > 0) {
		ssize_t n = pread(fd, b, len, (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;
		b += n;
		off += (uint64_t)n;
		len -= (uint64_t)n;
	}
	return 0;
}

static int
loader_files_open(const struct loader_config *cfg, struct loader_files *f,
    struct plan_input *in, char *err, size_t errlen)
{
	uint64_t len;
	int fd, error;

	fd = loader_open(cfg->kernel, &len, err, errlen);
	if (fd < 0)
		return fd;
	if (len == 0 || len > LOADER_KERNEL_MAX) {
		close(fd);
		snprintf(err, errlen, "%s: %s", cfg->kernel,
		    len == 0 ? "is empty" : "too large for a kernel");
		return -ENOEXEC;
	}
	f->kernel = malloc(len);
	error = f->kernel == NULL ? -ENOMEM : loader_read(fd, f->kernel, 0, len);
	close(fd);
	if (error != 0) {
		snprintf(err, errlen, "%s: %s", cfg->kernel, strerror(-error));
		return error;
	}
	in->img = f->kernel;
	in->len = len;
	in->name = cfg->kernel;
	if (cfg->nmodule > LOADER_MAXMODULES) {
		snprintf(err, errlen, "%s: more than %d modules",
		    cfg->module[LOADER_MAXMODULES].path, LOADER_MAXMODULES);
		return -E2BIG;
	}
	for (size_t i = 0; i < cfg->nmodule; i++) {
		fd = loader_open(cfg->module[i].path, &len, err, errlen);
		if (fd < 0)
			return fd;
		f->module[f->nmodule++] = fd;
		in->module[i].len = len;
		in->module[i].name = cfg->module[i].path;
		in->module[i].args = cfg->module[i].args;
	}
	in->nmodule = f->nmodule;
	return 0;
}

static void
loader_files_close(struct loader_files *f)
{
	for (unsigned i = 0; i < f->nmodule; i++)
		close(f->module[i]);
	free(f->kernel);
}

static int
loader_write_module(struct vmm *vmm, const struct plan_piece *piece, int fd,
    const char *path, char *err, size_t errlen)
{
	uint8_t *buf = malloc(LOADER_CHUNK);
	uint64_t off = 0, n;
	int error = buf == NULL ? -ENOMEM : 0;

	if (error != 0)
		snprintf(err, errlen, "%s: %s", path, strerror(-error));
	while (error == 0 && off < piece->len) {
		n = base_min(piece->len - off, LOADER_CHUNK);
		error = loader_read(fd, buf, off, n);
		if (error != 0) {
			snprintf(err, errlen, "%s: %s", path,
			    error == -EIO ? "cannot be read to its end" :
					    strerror(-error));
			break;
		}
		error = vmm_gpa_write(vmm, piece->gpa + off, buf, n, NULL);
		if (error != 0)
			snprintf(err, errlen, "%s: guest memory at %#llx: %s",
			    path, (unsigned long long)(piece->gpa + off),
			    strerror(-error));
		off += n;
	}
	free(buf);
	return error;
}

static int
loader_write(struct vmm *vmm, const struct plan *p,
    const struct loader_files *f, char *err, size_t errlen)
{
	int error;

	for (unsigned i = 0; i < p->npiece; i++) {
		const struct plan_piece *piece = &p->piece[i];

		if (piece->module >= 0) {
			error = loader_write_module(vmm, piece,
			    f->module[piece->module],
			    p->in->module[piece->module].name, err, errlen);
			if (error != 0)
				return error;
			continue;
		}
		error = vmm_gpa_write(vmm, piece->gpa, piece->data,
		    piece->datalen, NULL);
		if (error != 0) {
			snprintf(err, errlen, "%s: guest memory at %#llx: %s",
			    p->in->name, (unsigned long long)piece->gpa,
			    strerror(-error));
			return error;
		}
	}
	return 0;
}

#define LOADER_CODE 0x10
#define LOADER_DATA 0x18
#define LOADER_TSS 0x20

static int
loader_set_segments(struct vmm_vcpu *cpu, const struct plan *p)
{
	const bool l = p->mode == PLAN_LONG64;
	const struct vmm_seg data = { .limit = UINT32_MAX,
		.access = 0x93 | VMM_SEG_DB | VMM_SEG_G,
		.selector = LOADER_DATA };
	const struct vmm_seg seg[VMM_SEG_COUNT] = {
		[VMM_SEG_ES] = data,
		[VMM_SEG_CS] = { .limit = UINT32_MAX,
		    .access = 0x9b | VMM_SEG_G | (l ? VMM_SEG_L : VMM_SEG_DB),
		    .selector = LOADER_CODE },
		[VMM_SEG_SS] = data,
		[VMM_SEG_DS] = data,
		[VMM_SEG_FS] = data,
		[VMM_SEG_GS] = data,
		[VMM_SEG_LDTR] = { .access = VMM_SEG_UNUSABLE },
		[VMM_SEG_TR] = { .limit = 0x67, .access = 0x8b,
		    .selector = LOADER_TSS },
		[VMM_SEG_GDTR] = { .base = p->gdt, .limit = 6 * 8 - 1 },
		[VMM_SEG_IDTR] = { .limit = 0 },
	};
	int error = 0;

	for (unsigned i = 0; error == 0 && i < VMM_SEG_COUNT; i++)
		error = vmm_vcpu_set_seg(cpu, i, &seg[i]);
	return error;
}

static int
loader_set_registers(struct vmm_vcpu *cpu, const struct plan *p)
{
	const bool l = p->mode == PLAN_LONG64;
	const struct {
		enum vmm_reg reg;
		uint64_t val;
	} set[] = {
		/* Long mode goes on in the order that hardware demands. */
		{ VMM_REG_CR4, l ? 0x20 : 0 },
		{ VMM_REG_CR3, p->cr3 },
		{ VMM_REG_EFER, l ? 0x500 : 0 },
		{ VMM_REG_CR0, l ? 0x80000011 : 0x11 },
		{ VMM_REG_RFLAGS, 0x2 },
		{ VMM_REG_RIP, p->rip },
		{ VMM_REG_RAX, p->rax },
		{ VMM_REG_RBX, p->rbx },
		{ VMM_REG_RCX, 0 },
		{ VMM_REG_RDX, 0 },
		{ VMM_REG_RSI, p->rsi },
		{ VMM_REG_RDI, 0 },
		{ VMM_REG_RBP, 0 },
		{ VMM_REG_RSP, 0 },
	};
	int error = 0;

	for (unsigned i = 0; error == 0 && i < BASE_ARRAY_LEN(set); i++)
		error = vmm_vcpu_set_reg(cpu, set[i].reg, set[i].val);
	if (error == 0)
		error = loader_set_segments(cpu, p);
	return error;
}

int
loader_load(struct vmm *vmm, struct vmm_vcpu *bsp,
    const struct loader_config *cfg, char *err, size_t errlen)
{
	struct loader_files f = { 0 };
	struct plan_input in = { .append = cfg->append,
		.rsdp = cfg->rsdp,
		.low = vmm_lowmem_size(vmm),
		.high = vmm_highmem_size(vmm),
		.reserved = cfg->reserved,
		.nreserved = cfg->nreserved };
	struct plan plan = { 0 };
	int error;

	error = loader_files_open(cfg, &f, &in, err, errlen);
	if (error == 0) {
		error = plan_make(&in, &plan);
		if (error != 0)
			snprintf(err, errlen, "%s: %s", cfg->kernel, plan.err);
	}
	if (error == 0)
		error = loader_write(vmm, &plan, &f, err, errlen);
	if (error == 0) {
		error = loader_set_registers(bsp, &plan);
		if (error != 0)
			snprintf(err, errlen, "%s: cannot set registers: %s",
			    cfg->kernel, strerror(-error));
	}
	plan_fini(&plan);
	loader_files_close(&f);
	return error;
}
