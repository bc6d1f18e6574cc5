/* SPDX-License-Identifier: BSD-2-Clause */
#include "vmm/stats.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "vmm/machine_int.h"

#define STATS_MAXFOREIGN 128 /* counters of one engine or platform */

struct stats_out {
	struct vmm_stat *st;
	unsigned n, count;
};

static void
stats_put(struct stats_out *o, const char *name, uint64_t value)
{
	if (o->count < o->n) {
		memset(&o->st[o->count], 0, sizeof(o->st[o->count]));
		snprintf(o->st[o->count].name, sizeof(o->st[o->count].name),
		    "%s", name);
		o->st[o->count].value = value;
	}
	o->count++;
}

static void
stats_put_foreign(struct stats_out *o, const struct engine_stat *st,
    unsigned n)
{
	n = base_min(n, STATS_MAXFOREIGN);
	for (unsigned i = 0; i < n; i++)
		stats_put(o, st[i].name, st[i].value);
}

static void
stats_put_machine(struct stats_out *o, struct machine *m)
{
	struct vm_stats vs;

	memset(&vs, 0, sizeof(vs));
	vmspace_stats(m->vms, &vs);
#define X(field, name, desc) stats_put(o, name, vs.field);
	VM_STATS(X)
#undef X
#define X(field, name, desc) stats_put(o, name, atomic_load(&m->st.field));
	MACHINE_STATS(X)
#undef X
}

static void
stats_put_vcpu(struct stats_out *o, struct vcpu *v)
{
#define X(field, name, desc) stats_put(o, name, atomic_load(&v->st.field));
	VCPU_STATS(X)
#undef X
}

int
stats_get(struct machine *m, int vcpu, struct vmm_stat *st, unsigned n,
    unsigned *countp)
{
	struct engine_stat foreign[STATS_MAXFOREIGN];
	struct stats_out o = { .st = st, .n = n };

	if (vcpu < -1 || vcpu >= (int)m->ncpu)
		return -EINVAL;
	if (vcpu < 0)
		stats_put_machine(&o, m);
	else
		stats_put_vcpu(&o, &m->vcpu[vcpu]);
	stats_put_foreign(&o, foreign,
	    m->eng->stats(m->evm, vcpu < 0 ? NULL : m->vcpu[vcpu].ev,
		foreign, STATS_MAXFOREIGN));
	if (m->plat != NULL && m->plat->stats != NULL)
		stats_put_foreign(&o, foreign,
		    m->plat->stats(m->plat_arg, vcpu, foreign,
			STATS_MAXFOREIGN));
	*countp = o.count;
	return 0;
}

const char *
stats_help(const char *name, bool *gaugep)
{
	static const char *const gauges[] = { STATS_GAUGES };
	static const struct {
		const char *name, *help;
	} all[] = {
#define X(field, n, desc) { n, desc },
		VM_STATS(X) MACHINE_STATS(X) VCPU_STATS(X)
#undef X
	};

	/* engines' and the platform's: by their names (engine.h) */
	*gaugep = strlen(name) > 6 &&
	    strcmp(name + strlen(name) - 6, "_bytes") == 0;
	for (unsigned i = 0; i < sizeof(gauges) / sizeof(gauges[0]); i++)
		*gaugep |= strcmp(gauges[i], name) == 0;
	for (unsigned i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strcmp(all[i].name, name) == 0)
			return all[i].help;
	return NULL;
}
