/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Looking into guest memory.  What can be large is bounded: states of pages go
 * in runs of a message each; what was written or accessed is taken at one
 * moment, kept here by client, and fetched in pieces of 2 MB blocks that are
 * not empty.
 */
#include "libvmm/look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"
#include "vmm/look.h"

/* --- clients, in the machine's process ----------------------------------- */

void
look_init(struct look *lk)
{
	lock_init(&lk->lock, "look", LOCK_RANK_CONTROL);
}

static void
look_drop(struct look_client *c)
{
	look_mark_close(c->id);
	free(c->block);
	memset(c, 0, sizeof(*c));
}

void
look_fini(struct look *lk)
{
	for (unsigned i = 0; i < LOOK_MAXCLIENTS; i++)
		if (lk->c[i].name[0] != '\0')
			look_drop(&lk->c[i]);
	lock_fini(&lk->lock);
}

static struct look_client *
look_find(struct look *lk, const char *name, size_t len)
    LOCK_REQUIRES(&lk->lock)
{
	for (unsigned i = 0; i < LOOK_MAXCLIENTS; i++)
		if (lk->c[i].name[0] != '\0' && strlen(lk->c[i].name) == len &&
		    memcmp(lk->c[i].name, name, len) == 0)
			return &lk->c[i];
	return NULL;
}

static int
look_open(struct look *lk, const char *name, size_t len, struct look_client **cp)
    LOCK_REQUIRES(&lk->lock)
{
	struct look_client *c = look_find(lk, name, len);

	*cp = c;
	if (c != NULL)
		return 0;
	if (len == 0 || len > LOOK_NAME_MAX)
		return -EINVAL;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)name[i] <= ' ' || name[i] == 0x7f)
			return -EINVAL;
	for (c = lk->c; c->name[0] != '\0'; c++)
		if (c == &lk->c[LOOK_MAXCLIENTS - 1])
			return -EMFILE;
	c->id = look_mark_open();
	if (c->id < 0)
		return c->id;
	memcpy(c->name, name, len);
	*cp = c;
	return 0;
}

struct look_taking {
	struct vmm_block *block;
	uint64_t n, max;
};

static bool
look_take_block(void *arg, const struct vmm_block *b)
{
	struct look_taking *t = arg;

	if (t->n == t->max)
		return false;
	t->block[t->n++] = *b;
	return true;
}

int
look_take(struct vmm *vmm, unsigned which, const char *name, size_t len,
    struct proto_take *take)
{
	struct look *lk = &vmm->look;
	struct look_taking t = { .max = look_max_blocks(vmm->m) };
	struct look_client *c;
	int error;

	if (which >= LOOK_NMARK)
		return -EINVAL;
	/* touched as far as it is used only */
	t.block = malloc((t.max + 1) * sizeof(*t.block));
	if (t.block == NULL)
		return -ENOMEM;
	lock_acquire(&lk->lock);
	error = look_open(lk, name, len, &c);
	if (error != 0) {
		lock_release(&lk->lock);
		free(t.block);
		return error;
	}
	take->pages = look_marks(vmm->m, c->id, which, look_take_block, &t);
	free(c->block);
	c->block = realloc(t.block, (t.n + 1) * sizeof(*t.block));
	if (c->block == NULL)
		c->block = t.block;
	c->nblocks = take->nblocks = t.n;
	c->seq = take->seq = ++lk->seq;
	take->slot = (uint32_t)(c - lk->c);
	lock_release(&lk->lock);
	return 0;
}

long
look_blocks(struct vmm *vmm, const struct proto_take *take, uint64_t first,
    struct vmm_block *out, uint64_t max)
{
	struct look *lk = &vmm->look;
	const struct look_client *c;
	long n = -ESTALE;

	if (take->slot >= LOOK_MAXCLIENTS)
		return -EINVAL;
	lock_acquire(&lk->lock);
	c = &lk->c[take->slot];
	if (c->name[0] != '\0' && c->seq == take->seq) {
		n = first >= c->nblocks ? 0 :
			(long)base_min(c->nblocks - first, max);
		memcpy(out, c->block + (n > 0 ? first : 0),
		    (size_t)n * sizeof(*out));
	}
	lock_release(&lk->lock);
	return n;
}

int
look_close(struct vmm *vmm, const char *name, size_t len)
{
	struct look *lk = &vmm->look;
	struct look_client *c;

	lock_acquire(&lk->lock);
	c = look_find(lk, name, len);
	if (c != NULL)
		look_drop(c);
	lock_release(&lk->lock);
	return c != NULL ? 0 : -ENOENT;
}

/* --- the API ------------------------------------------------------------- */

static int
look_remote(struct vmm *vmm, enum proto_op op, uint64_t a, uint64_t b,
    void *reply, size_t cap)
{
	struct client_call call = {
		.op = op,
		.arg = { a, b },
		.reply = reply,
		.cap = cap,
	};

	return client_call_exact(vmm->client, &call);
}

int
vmm_get_ledger(struct vmm *vmm, int segid, struct vmm_ledger *l)
{
	int error;

	if (l->size != sizeof(*l))
		return api_error(-EINVAL, "record of another version");
	if (vmm->client != NULL)
		error = look_remote(vmm, PROTO_LEDGER, 0,
		    (uint64_t)(int64_t)segid, l, sizeof(*l));
	else
		error = look_ledger(vmm->m, segid, l);
	return api_errno(error, "memory segment");
}

int
vmm_get_map_ledger(struct vmm *vmm, gpa_t gpa, struct vmm_ledger *l)
{
	int error;

	if (l->size != sizeof(*l))
		return api_error(-EINVAL, "record of another version");
	if (vmm->client != NULL)
		error = look_remote(vmm, PROTO_LEDGER, 1, gpa, l, sizeof(*l));
	else
		error = look_map_ledger(vmm->m, gpa, l);
	return api_errno(error, "memory map");
}

int
vmm_get_page(struct vmm *vmm, gpa_t gpa, struct vmm_page *pg)
{
	int error = 0;

	if (pg->size != sizeof(*pg))
		return api_error(-EINVAL, "record of another version");
	if (vmm->client != NULL)
		error = look_remote(vmm, PROTO_PAGE, gpa, 0, pg, sizeof(*pg));
	else
		look_page(vmm->m, gpa, pg);
	return api_errno(error, "page");
}

int
vmm_page_states(struct vmm *vmm, gpa_t gpa, uint64_t n, uint16_t *state)
{
	int error = 0;

	if ((gpa & VMM_PAGE_MASK) != 0 || n > UINT64_MAX / VMM_PAGE_SIZE ||
	    gpa + n * VMM_PAGE_SIZE < gpa)
		return api_error(-EINVAL, "%#lx: not the address of pages", gpa);
	while (n != 0 && error == 0) {
		uint64_t k = base_min(n, (uint64_t)PROTO_MAXSTATES);

		if (vmm->client != NULL)
			error = look_remote(vmm, PROTO_STATES, gpa, k, state,
			    k * sizeof(*state));
		else
			look_states(vmm->m, gpa, k, state);
		gpa += k * VMM_PAGE_SIZE;
		state += k;
		n -= k;
	}
	return api_errno(error, "pages");
}

static int
look_get_take(struct vmm *vmm, unsigned which, const char *name,
    struct proto_take *take)
{
	struct client_call call = {
		.op = PROTO_TAKE,
		.arg = { which },
		.data = name,
		.len = strlen(name),
		.reply = take,
		.cap = sizeof(*take),
	};

	if (call.len > LOOK_NAME_MAX)
		return -EINVAL;
	if (vmm->client == NULL)
		return look_take(vmm, which, name, call.len, take);
	return client_call_exact(vmm->client, &call);
}

static long
look_get_blocks(struct vmm *vmm, const struct proto_take *take, uint64_t first,
    struct vmm_block *out)
{
	struct client_call call = {
		.op = PROTO_BLOCKS,
		.arg = { take->slot, take->seq, first },
		.reply = out,
		.cap = PROTO_MAXBLOCKS * sizeof(*out),
	};
	int error;

	if (vmm->client == NULL)
		return look_blocks(vmm, take, first, out, PROTO_MAXBLOCKS);
	error = client_call(vmm->client, &call);
	if (error != 0)
		return error;
	return call.got % sizeof(*out) != 0 ? -EPROTO :
					      (long)(call.got / sizeof(*out));
}

static int
look_marked(struct vmm *vmm, unsigned which, const char *name, vmm_block_fn *fn,
    void *arg, uint64_t *pagesp)
{
	struct vmm_block *b = malloc(PROTO_MAXBLOCKS * sizeof(*b));
	struct proto_take take = { 0 };
	long n = 0;
	int error;

	error = b == NULL ? -ENOMEM : look_get_take(vmm, which, name, &take);
	for (uint64_t i = 0; fn != NULL && i < take.nblocks && error == 0;
	     i += (uint64_t)n) {
		n = look_get_blocks(vmm, &take, i, b);
		if (n <= 0)
			error = n == 0 ? -EPROTO : (int)n;
		for (long k = 0; k < n && error == 0; k++)
			error = fn(arg, &b[k]);
	}
	free(b);
	if (error == -ESTALE)
		return api_error(error,
		    "client \"%s\" is used by somebody else, too", name);
	if (error == -EMFILE)
		return api_error(error, "there are %d clients already",
		    LOOK_MAXCLIENTS);
	if (error == -EINVAL)
		return api_error(error,
		    "a client's name has 1 to %d bytes, no blank, no control "
		    "character", LOOK_NAME_MAX);
	if (error != 0)
		return error > 0 ? error : api_errno(error, name);
	*pagesp = take.pages;
	return 0;
}

int
vmm_dirty(struct vmm *vmm, const char *client, vmm_block_fn *fn, void *arg,
    uint64_t *pagesp)
{
	return look_marked(vmm, LOOK_DIRTY, client, fn, arg, pagesp);
}

int
vmm_accessed(struct vmm *vmm, const char *client, vmm_block_fn *fn, void *arg,
    uint64_t *pagesp)
{
	return look_marked(vmm, LOOK_ACCESSED, client, fn, arg, pagesp);
}

int
vmm_client_close(struct vmm *vmm, const char *client)
{
	struct client_call call = {
		.op = PROTO_FORGET,
		.data = client,
		.len = base_min(strlen(client), (size_t)LOOK_NAME_MAX + 1),
	};

	return api_errno(vmm->client != NULL ?
		client_call_exact(vmm->client, &call) :
		look_close(vmm, client, call.len), client);
}

int
vmm_recount(struct vmm *vmm, struct vmm_count *c, unsigned n, unsigned *countp)
{
	struct client_call call = {
		.op = PROTO_RECOUNT,
		.cap = PROTO_MAXCOUNTS * sizeof(*c),
	};
	int error;

	if (vmm->client == NULL) {
		(void)look_recount(vmm->m, c, n, countp);
		return 0;
	}
	call.reply = malloc(call.cap);
	if (call.reply == NULL)
		return api_errno(-ENOMEM, "recount");
	error = client_call(vmm->client, &call);
	if (error == 0) {
		*countp = (unsigned)(call.got / sizeof(*c));
		memcpy(c, call.reply, base_min(n, *countp) * sizeof(*c));
	}
	free(call.reply);
	return api_errno(error, "recount");
}
