/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What each request of the control protocol does, by the public API on the
 * machine's own handle.  Everything in a request is checked there or here.
 */
#include <errno.h>
#include <string.h>

#include "libvmm/libvmm_int.h"
#include "libvmm/look.h"
#include "libvmm/server.h"

/* Each fills at most PROTO_MAXDATA bytes of out and sets *lenp. */
typedef int answer_fn(struct vmm *vmm, const struct proto_head *h,
    const void *data, void *out, size_t *lenp);

static int
answer_hello(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	(void)vmm;
	(void)data;
	(void)out;
	(void)lenp;
	return h->arg[0] == PROTO_VERSION &&
		h->arg[1] == sizeof(struct vmm_regs) ?
	    0 :
	    -EPROTONOSUPPORT;
}

static int
answer_info(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_info info = { .size = sizeof(info) };
	int error = vmm_get_info(vmm, &info);

	(void)h;
	(void)data;
	if (error == 0) {
		memcpy(out, &info, sizeof(info));
		*lenp = sizeof(info);
	}
	return error;
}

static int
answer_suspend(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	(void)data;
	(void)out;
	(void)lenp;
	if (h->arg[0] > VMM_SUSPEND_DESTROY)
		return -EINVAL;
	return vmm_suspend(vmm, (enum vmm_suspend)h->arg[0]);
}

static int
answer_memseg(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct proto_memseg seg;
	int error;

	(void)data;
	if (h->arg[0] >= VMM_MAXSEGS)
		return -EINVAL;
	memset(&seg, 0, sizeof(seg));
	error = vmm_get_memseg(vmm, (int)h->arg[0], &seg.len, seg.name);
	if (error == 0)
		error = vmm_memseg_resident(vmm, (int)h->arg[0],
		    &seg.resident);
	if (error == 0) {
		memcpy(out, &seg, sizeof(seg));
		*lenp = sizeof(seg);
	}
	return error;
}

static int
answer_memmap(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_memmap map = { .size = sizeof(map) };
	int error = vmm_mmap_getnext(vmm, h->arg[0], &map);

	(void)data;
	if (error == 0) {
		memcpy(out, &map, sizeof(map));
		*lenp = sizeof(map);
	}
	return error;
}

static int
answer_gpa_read(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	uint64_t done = 0;
	int error;

	(void)data;
	if (h->arg[1] > PROTO_MAXDATA)
		return -EINVAL;
	error = vmm_gpa_read(vmm, h->arg[0], out, h->arg[1], &done);
	*lenp = done;
	return error;
}

static int
answer_gpa_write(struct vmm *vmm, const struct proto_head *h,
    const void *data, void *out, size_t *lenp)
{
	uint64_t done = 0;
	int error = vmm_gpa_write(vmm, h->arg[0], data, h->len, &done);

	memcpy(out, &done, sizeof(done));
	*lenp = sizeof(done);
	return error;
}

static int
answer_gpa_pmap(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	uint64_t pte[4];
	unsigned n;
	int error = vmm_get_gpa_pmap(vmm, h->arg[0], pte, &n);

	(void)data;
	if (error == 0) {
		memcpy(out, pte, n * sizeof(pte[0]));
		*lenp = n * sizeof(pte[0]);
	}
	return error;
}

/* => a vCPU's handle on the stack, checked */
static int
answer_vcpu(struct vmm *vmm, uint64_t id, struct vmm_vcpu *v)
{
	if (id >= machine_ncpu(vmm->m))
		return -EINVAL;
	v->vmm = vmm;
	v->id = (unsigned)id;
	return 0;
}

static int
answer_regs(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_regs regs = { .size = sizeof(regs) };
	struct vmm_vcpu v;
	int error = answer_vcpu(vmm, h->arg[0], &v);

	(void)data;
	if (error == 0)
		error = vmm_vcpu_get_regs(&v, &regs);
	if (error == 0) {
		memcpy(out, &regs, sizeof(regs));
		*lenp = sizeof(regs);
	}
	return error;
}

static int
answer_set_reg(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_vcpu v;
	int error = answer_vcpu(vmm, h->arg[0], &v);

	(void)data;
	(void)out;
	(void)lenp;
	if (error == 0 && h->arg[1] >= VMM_REG_COUNT)
		error = -EINVAL;
	if (error == 0)
		error = vmm_vcpu_set_reg(&v, (enum vmm_reg)h->arg[1],
		    h->arg[2]);
	return error;
}

static int
answer_set_seg(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_seg seg;
	struct vmm_vcpu v;
	int error = answer_vcpu(vmm, h->arg[0], &v);

	(void)out;
	(void)lenp;
	if (error == 0 && h->arg[1] >= VMM_SEG_COUNT)
		error = -EINVAL;
	if (error == 0) {
		memcpy(&seg, data, sizeof(seg));
		error = vmm_vcpu_set_seg(&v, (enum vmm_segreg)h->arg[1],
		    &seg);
	}
	return error;
}

static int
answer_gva_to_gpa(struct vmm *vmm, const struct proto_head *h,
    const void *data, void *out, size_t *lenp)
{
	struct vmm_vcpu v;
	gpa_t gpa;
	int error = answer_vcpu(vmm, h->arg[0], &v);

	(void)data;
	if (error == 0 && h->arg[2] > VMM_PROT_EXEC)
		error = -EINVAL;
	if (error == 0)
		error = vmm_vcpu_gva_to_gpa(&v, h->arg[1], (int)h->arg[2],
		    &gpa);
	if (error == 0) {
		memcpy(out, &gpa, sizeof(gpa));
		*lenp = sizeof(gpa);
	}
	return error;
}

static int
answer_stats(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	const unsigned max = PROTO_MAXDATA / sizeof(struct vmm_stat);
	unsigned n;
	int error;

	(void)data;
	if ((int64_t)h->arg[0] < -1 || (int64_t)h->arg[0] >= VMM_MAXCPU)
		return -EINVAL;
	error = vmm_get_stats(vmm, (int)(int64_t)h->arg[0], out, max, &n);
	if (error == 0)
		*lenp = base_min(n, max) * sizeof(struct vmm_stat);
	return error;
}

static int
answer_ledger(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_ledger l = { .size = sizeof(l) };
	int error = -EINVAL;

	(void)data;
	if (h->arg[0] == 0 && (int64_t)h->arg[1] >= -1 &&
	    (int64_t)h->arg[1] < VMM_MAXSEGS)
		error = vmm_get_ledger(vmm, (int)(int64_t)h->arg[1], &l);
	else if (h->arg[0] == 1)
		error = vmm_get_map_ledger(vmm, h->arg[1], &l);
	if (error == 0) {
		memcpy(out, &l, sizeof(l));
		*lenp = sizeof(l);
	}
	return error;
}

static int
answer_page(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct vmm_page pg = { .size = sizeof(pg) };
	int error = vmm_get_page(vmm, h->arg[0], &pg);

	(void)data;
	if (error == 0) {
		memcpy(out, &pg, sizeof(pg));
		*lenp = sizeof(pg);
	}
	return error;
}

static int
answer_states(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	int error;

	(void)data;
	if (h->arg[1] > PROTO_MAXSTATES)
		return -EINVAL;
	error = vmm_page_states(vmm, h->arg[0], h->arg[1], out);
	if (error == 0)
		*lenp = h->arg[1] * sizeof(uint16_t);
	return error;
}

static int
answer_take(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct proto_take take;
	int error;

	if (h->arg[0] > UINT32_MAX)
		return -EINVAL;
	error = look_take(vmm, (unsigned)h->arg[0], data, h->len, &take);
	if (error == 0) {
		memcpy(out, &take, sizeof(take));
		*lenp = sizeof(take);
	}
	return error;
}

static int
answer_blocks(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	struct proto_take take = { 0 };
	long n;

	(void)data;
	if (h->arg[0] > UINT32_MAX || h->arg[1] > UINT32_MAX)
		return -EINVAL;
	take.slot = (uint32_t)h->arg[0];
	take.seq = (uint32_t)h->arg[1];
	n = look_blocks(vmm, &take, h->arg[2], out, PROTO_MAXBLOCKS);
	if (n < 0)
		return (int)n;
	*lenp = (size_t)n * sizeof(struct vmm_block);
	return 0;
}

static int
answer_forget(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	(void)out;
	(void)lenp;
	return look_close(vmm, data, h->len);
}

static int
answer_recount(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	unsigned n;
	int error = vmm_recount(vmm, out, PROTO_MAXCOUNTS, &n);

	(void)h;
	(void)data;
	if (error == 0)
		*lenp = base_min(n, PROTO_MAXCOUNTS) * sizeof(struct vmm_count);
	return error;
}

static int
answer_limit(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	uint64_t now;
	int error = 0;

	(void)data;
	if (h->arg[0] > 1)
		return -EINVAL;
	if (h->arg[0] == 1)
		error = vmm_set_limit(vmm, h->arg[1]);
	if (error == 0)
		error = vmm_get_limit(vmm, &now);
	if (error == 0) {
		memcpy(out, &now, sizeof(now));
		*lenp = sizeof(now);
	}
	return error;
}

static int
answer_nmi(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	(void)data;
	(void)out;
	(void)lenp;
	return h->arg[0] < VMM_MAXCPU ?
	    vmm_inject_nmi(vmm, (unsigned)h->arg[0]) :
	    -EINVAL;
}

static int
answer_power(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out, size_t *lenp)
{
	(void)h;
	(void)data;
	(void)out;
	(void)lenp;
	return vmm_power_button(vmm);
}

static answer_fn *const answer_table[PROTO_OPS] = {
	[PROTO_HELLO] = answer_hello,
	[PROTO_INFO] = answer_info,
	[PROTO_SUSPEND] = answer_suspend,
	[PROTO_MEMSEG] = answer_memseg,
	[PROTO_MEMMAP] = answer_memmap,
	[PROTO_GPA_READ] = answer_gpa_read,
	[PROTO_GPA_WRITE] = answer_gpa_write,
	[PROTO_GPA_PMAP] = answer_gpa_pmap,
	[PROTO_REGS] = answer_regs,
	[PROTO_SET_REG] = answer_set_reg,
	[PROTO_SET_SEG] = answer_set_seg,
	[PROTO_GVA_TO_GPA] = answer_gva_to_gpa,
	[PROTO_STATS] = answer_stats,
	[PROTO_NMI] = answer_nmi,
	[PROTO_POWER] = answer_power,
	[PROTO_LEDGER] = answer_ledger,
	[PROTO_PAGE] = answer_page,
	[PROTO_STATES] = answer_states,
	[PROTO_TAKE] = answer_take,
	[PROTO_BLOCKS] = answer_blocks,
	[PROTO_FORGET] = answer_forget,
	[PROTO_RECOUNT] = answer_recount,
	[PROTO_LIMIT] = answer_limit,
};

size_t
server_answer(struct vmm *vmm, const struct proto_head *h, const void *data,
    void *out)
{
	struct proto_reply r = { .magic = PROTO_MAGIC, .op = h->op };
	size_t len = 0;

	r.error = answer_table[h->op](vmm, h, data, (char *)out + sizeof(r),
	    &len);
	r.len = (uint32_t)len;
	memcpy(out, &r, sizeof(r));
	return sizeof(r) + len;
}
