/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Life of a handle: the machine itself, or a connection to one.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libvmm/client.h"
#include "libvmm/libvmm_int.h"
#include "libvmm/plat.h"
#include "libvmm/server.h"
#include "vmm/memseg.h"
#include "vmm/stats.h"

#define API_VERSION "0.1.0"

const char *
vmm_version(void)
{
	return API_VERSION;
}

static uint64_t
api_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

int
api_check_name(const char *name)
{
	size_t len = name == NULL ? 0 : strlen(name);

	if (len > VMM_NAME_MAX)
		return api_error(-ENAMETOOLONG,
		    "a machine's name has at most %d bytes", VMM_NAME_MAX);
	if (len == 0 || name[0] == '.')
		return api_error(-EINVAL,
		    "a machine's name is not empty and begins with no dot");
	for (const char *s = name; *s != '\0'; s++)
		if (*s == '/' || (unsigned char)*s < 0x20 || *s == 0x7f)
			return api_error(-EINVAL,
			    "a machine's name has no slash and no control "
			    "characters");
	return 0;
}

static int
api_create_node(void *arg, const char *name, uint64_t len, int *fdp)
{
	struct vmm *vmm = arg;

	if (!vmm->has_dir)
		return -ENOTSUP;
	return dir_create_node(&vmm->dir, name, len, fdp);
}

static void
api_destroy_node(void *arg, const char *name)
{
	struct vmm *vmm = arg;

	dir_remove_node(&vmm->dir, name);
}

static const struct machine_node_ops api_node_ops = {
	.create = api_create_node,
	.destroy = api_destroy_node,
};

static int
api_parse_pmap(const char *name, enum pmap_type *typep)
{
	if (name == NULL || strcmp(name, "ept") == 0)
		*typep = PMAP_PT_EPT;
	else if (strcmp(name, "x86") == 0)
		*typep = PMAP_PT_X86;
	else
		return api_error(-EINVAL,
		    "unknown page table format \"%s\": ept or x86", name);
	return 0;
}

static int
api_create_machine(struct vmm *vmm, const struct vmm_config *cfg)
{
	struct machine_config mc = {
		.name = vmm->name,
		.ncpu = cfg->ncpu,
		.pmap_flags = PMAP_F_2M | PMAP_F_1G |
		    PMAP_F_EXEC_ONLY,
		.code_cache = cfg->code_cache,
		.perf_map = cfg->perf_map,
		.no_translate = (cfg->flags & VMM_CONFIG_NO_TRANSLATE) != 0,
		.nodes = &api_node_ops,
		.nodes_arg = vmm,
	};
	int error;

	if ((cfg->flags & VMM_CONFIG_NO_LARGE) != 0)
		mc.pmap_flags &= ~(PMAP_F_2M | PMAP_F_1G);
	if ((cfg->flags & VMM_CONFIG_AD_EMULATED) != 0)
		mc.pmap_flags |= PMAP_F_AD_EMUL;
	error = api_parse_pmap(cfg->pmap, &vmm->pmap_type);
	if (error != 0)
		return error;
	mc.pmap_type = vmm->pmap_type;
	error = machine_pick_engine(cfg->engine, &mc.engine, vmm->engine_why,
	    sizeof(vmm->engine_why));
	if (error != 0)
		return api_error(error, "%s", vmm->engine_why);
	error = machine_create(&mc, &vmm->m);
	if (error != 0)
		return api_errno(error, "cannot make the machine");
	error = plat_create(vmm);
	if (error != 0)
		return api_errno(error, "cannot make the platform");
	return 0;
}

static int
api_create_control(struct vmm *vmm)
{
	int error, sock;

	sock = dir_listen(&vmm->dir);
	if (sock < 0)
		return api_errno(sock, "control socket");
	error = server_start(vmm, sock, &vmm->server);
	return api_errno(error, "control thread");
}

int
vmm_create(const char *name, const struct vmm_config *cfg, struct vmm **vmmp)
{
	const uint32_t known = VMM_CONFIG_NO_TRANSLATE |
	    VMM_CONFIG_NO_CONTROL | VMM_CONFIG_AD_EMULATED | VMM_CONFIG_NO_LARGE;
	struct vmm *vmm;
	int error;

	error = api_check_name(name);
	if (error != 0)
		return error;
	if (cfg->size != sizeof(*cfg) || (cfg->flags & ~known) != 0)
		return api_error(-EINVAL, "configuration of another version");
	if (cfg->ncpu == 0 || cfg->ncpu > VMM_MAXCPU)
		return api_error(-EINVAL, "%u vCPUs: 1 to %d are possible",
		    cfg->ncpu, VMM_MAXCPU);
	vmm = calloc(1, sizeof(*vmm));
	if (vmm == NULL)
		return api_errno(-ENOMEM, name);
	strcpy(vmm->name, name);
	vmm->start_ns = api_now_ns();
	look_init(&vmm->look);
	if ((cfg->flags & VMM_CONFIG_NO_CONTROL) == 0) {
		error = dir_claim(name, &vmm->dir);
		vmm->has_dir = error == 0;
	}
	if (error == 0)
		error = api_create_machine(vmm, cfg);
	if (error == 0 && vmm->has_dir)
		error = api_create_control(vmm);
	if (error != 0) {
		vmm_close(vmm);
		return error;
	}
	*vmmp = vmm;
	return 0;
}

int
vmm_open(const char *name, struct vmm **vmmp)
{
	struct vmm *vmm;
	int error;

	error = api_check_name(name);
	if (error != 0)
		return error;
	vmm = calloc(1, sizeof(*vmm));
	if (vmm == NULL)
		return api_errno(-ENOMEM, name);
	strcpy(vmm->name, name);
	error = client_open(name, &vmm->client);
	if (error != 0) {
		free(vmm);
		switch (error) {
		case -ENOENT:
		case -ECONNREFUSED:
			return api_error(-ENOENT, "no machine \"%s\" runs",
			    name);
		case -EPROTONOSUPPORT:
			return api_error(error,
			    "machine \"%s\" is of another version", name);
		case -EPERM:
			return error; /* dir said which directory */
		default:
			return api_errno(error, name);
		}
	}
	*vmmp = vmm;
	return 0;
}

void
vmm_close(struct vmm *vmm)
{
	if (vmm == NULL)
		return;
	if (vmm->client != NULL)
		client_close(vmm->client);
	if (vmm->server != NULL)
		server_stop(vmm->server);
	if (vmm->plat != NULL)
		plat_destroy(vmm);
	if (vmm->client == NULL)
		look_fini(&vmm->look);
	if (vmm->m != NULL)
		machine_destroy(vmm->m);
	if (vmm->has_dir)
		dir_release(&vmm->dir, vmm->name);
	free(vmm);
}

const char *
vmm_name(const struct vmm *vmm)
{
	return vmm->name;
}

const char *
vmm_engine_reason(const struct vmm *vmm)
{
	return vmm->engine_why;
}

int
vmm_list(int (*fn)(void *arg, const char *name), void *arg)
{
	return dir_list(fn, arg);
}

static uint64_t
api_resident(struct vmm *vmm)
{
	uint64_t bytes, sum = 0;

	for (int i = 0; i < VMM_MAXSEGS; i++)
		if (memseg_resident(vmm->m, i, &bytes) == 0)
			sum += bytes;
	return sum;
}

int
vmm_get_info(struct vmm *vmm, struct vmm_info *info)
{
	struct client_call call = {
		.op = PROTO_INFO,
		.reply = info,
		.cap = sizeof(*info),
	};

	if (info->size != sizeof(*info))
		return api_error(-EINVAL, "record of another version");
	if (vmm->client != NULL)
		return api_errno(client_call_exact(vmm->client, &call),
		    vmm->name);
	info->ncpu = machine_ncpu(vmm->m);
	info->pid = getpid();
	info->state = machine_suspended(vmm->m);
	info->lowmem = memseg_lowmem(vmm->m);
	info->highmem = memseg_highmem(vmm->m);
	info->resident = api_resident(vmm);
	info->uptime_ns = api_now_ns() - vmm->start_ns;
	info->tsc_hz = machine_tsc_hz(vmm->m);
	snprintf(info->engine, sizeof(info->engine), "%s",
	    machine_engine(vmm->m));
	snprintf(info->pmap, sizeof(info->pmap), "%s",
	    vmm->pmap_type == PMAP_PT_EPT ? "ept" : "x86");
	return 0;
}

int
vmm_suspend(struct vmm *vmm, enum vmm_suspend how)
{
	struct client_call call = {
		.op = PROTO_SUSPEND,
		.arg = { (uint64_t)how },
	};
	int error;

	if (vmm->client != NULL)
		error = client_call_exact(vmm->client, &call);
	else
		error = machine_suspend(vmm->m, how, -1);
	if (error == -EALREADY)
		return api_error(error, "%s ends already", vmm->name);
	return api_errno(error, vmm->name);
}

int
vmm_reinit(struct vmm *vmm)
{
	int error;

	if (vmm->client != NULL)
		return api_errno(-ENOTSUP, vmm->name);
	error = machine_reinit(vmm->m);
	if (error == 0)
		plat_reset(vmm);
	return api_errno(error, vmm->name);
}

int
vmm_get_stats(struct vmm *vmm, int vcpu, struct vmm_stat *st, unsigned n,
    unsigned *countp)
{
	struct client_call call = {
		.op = PROTO_STATS,
		.arg = { (uint64_t)(int64_t)vcpu },
		.cap = PROTO_MAXDATA,
	};
	int error;

	if (vmm->client == NULL)
		return api_errno(stats_get(vmm->m, vcpu, st, n, countp),
		    "statistics");
	call.reply = malloc(call.cap);
	if (call.reply == NULL)
		return api_errno(-ENOMEM, "statistics");
	error = client_call(vmm->client, &call);
	if (error == 0) {
		*countp = (unsigned)(call.got / sizeof(*st));
		memcpy(st, call.reply,
		    base_min(n, *countp) * sizeof(*st));
	}
	free(call.reply);
	return api_errno(error, "statistics");
}

const char *
vmm_stat_help(const char *name, bool *gaugep)
{
	return stats_help(name, gaugep);
}
