// SPDX-License-Identifier: GPL-2.0-only
/*
 * An oracle: threads do random operations of a process and its devices on
 * memory, and know the contents of each byte.
 *
 * Each thread has regions of memory, and for each of them a model: plain memory
 * that the devices never see, and the protection of each page.  The operations
 * of a thread depend on the seed and its number alone, so that they can be
 * repeated with --seed; only the timing is left to chance.  Two things belong
 * to all threads: words that everybody only adds to, and the devices' memory.
 */

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>

#include "../../kselftest.h"
#include "vsvm_util.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define MAX_THREADS	16
#define DEVICES		3	/* at most; all but the first may be missing */
#define REGIONS		4
#define SMALL_PAGES	48
#define LARGE_PAGES	512
#define MAX_RUN		24	/* pages that one operation deals with */
#define SHARED_WORDS	64
#define LOG_LINES	50
#define JOB_OPS		4
#define CHECK_EVERY	1000	/* operations */

/* Access that a page allows, in rising order. */
enum prot { GONE, NONE, READ, WRITE };

/*
 * Memory at @mem, somewhere in its slot of address space, and its contents.
 * The first region of a thread is large and stays where it is.
 */
struct region {
	char *slot;
	char *mem;
	size_t npages;
	uint8_t prot[LARGE_PAGES];
	char *model;
};

/* A part of a region, in bytes. */
struct span {
	struct region *r;
	size_t start;
	size_t size;
};

/* A job that may still run, and the results it must have. */
struct flight {
	bool on;
	int device;
	unsigned int regions;
	uint64_t job;
	uint32_t num_ops;
	uint32_t num_results;
	struct drm_vsvm_op ops[JOB_OPS];
	uint64_t expected[2 * JOB_OPS];
};

struct thread {
	pthread_t thread;
	int index;
	uint64_t random;
	uint64_t op;
	uint64_t jobs;
	uint64_t forks;
	/* Digest of the log: equal after equal operations. */
	uint64_t digest;
	bool failed;
	bool in_child;
	pid_t child;
	struct vsvm_gpu gpu[DEVICES];
	uint32_t syncobj[DEVICES];
	uint64_t *result;
	struct region region[REGIONS];
	struct flight flight;
	uint64_t added[SHARED_WORDS];
	char log[LOG_LINES][128];
};

static struct {
	uint64_t seed;
	uint64_t ops;
	uint64_t seconds;
	uint64_t threads;
	uint64_t unbind;
	uint64_t cycles;
} option = { .seconds = 20, .threads = 3 };

static size_t page_size;
static double deadline;
static atomic_bool stop;
static uint64_t *shared;
/* Held while the second device goes away. */
static pthread_mutex_t unbinding = PTHREAD_MUTEX_INITIALIZER;
static uint64_t unbinds;
static struct thread threads[MAX_THREADS];

static uint64_t random64(struct thread *t)
{
	return vsvm_random(&t->random);
}

static size_t below(struct thread *t, size_t n)
{
	return random64(t) % n;
}

static __printf(2, 3) void note(struct thread *t, const char *format, ...)
{
	char *line = t->log[t->op % LOG_LINES];
	va_list args;
	int n;

	n = snprintf(line, sizeof(t->log[0]), "op %llu: ",
		     (unsigned long long)t->op);
	va_start(args, format);
	vsnprintf(line + n, sizeof(t->log[0]) - n, format, args);
	va_end(args);

	for (; *line; line++)
		t->digest = (t->digest ^ (unsigned char)*line) * 0x100000001b3;
}

static __printf(2, 3) void fail(struct thread *t, const char *format, ...)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	char what[256];
	va_list args;
	uint64_t i;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);

	pthread_mutex_lock(&lock);
	ksft_print_msg("FAILED: seed %llu thread %d%s op %llu: %s\n",
		       (unsigned long long)option.seed, t->index,
		       t->in_child ? " (child)" : "",
		       (unsigned long long)t->op, what);
	for (i = t->op < LOG_LINES ? 0 : t->op - LOG_LINES + 1; i <= t->op; i++)
		ksft_print_msg("  %s\n", t->log[i % LOG_LINES]);
	pthread_mutex_unlock(&lock);
	t->failed = true;
	atomic_store(&stop, true);
}

static int region_index(struct thread *t, struct region *r)
{
	return r - t->region;
}

/* Compare a part of the memory, where it can be read, with the model. */
static bool check(struct thread *t, struct region *r, size_t first, size_t n)
{
	const char *mem, *model;
	uint64_t expected, found;
	size_t i, k;

	for (i = first; i < first + n; i++) {
		if (r->prot[i] < READ)
			continue;
		mem = r->mem + i * page_size;
		model = r->model + i * page_size;
		if (!memcmp(mem, model, page_size))
			continue;
		for (k = 0; mem[k] == model[k] && k < page_size - 1; k++)
			;
		k -= k % 8;
		memcpy(&found, mem + k, 8);
		memcpy(&expected, model + k, 8);
		fail(t, "region %d page %zu offset %#zx address %p: expected %#llx, found %#llx",
		     region_index(t, r), i, k, mem + k,
		     (unsigned long long)expected, (unsigned long long)found);
		return false;
	}
	return true;
}

/*
 * The second device goes away, or is gone.  When it is, its jobs have ended for
 * sure; closing the file would not be enough, as a child may have it, too.  The
 * job in flight did its work in part, or not at all.
 */
static void redo_on_first_device(struct thread *t)
{
	struct flight *f = &t->flight;
	int ret;

	pthread_mutex_lock(&unbinding);
	pthread_mutex_unlock(&unbinding);
	close(t->gpu[1].fd);
	t->gpu[1].fd = -1;
	ret = vsvm_run(&t->gpu[0], f->ops, f->num_ops, NULL);
	if (ret)
		fail(t, "job, again on the first device: %s",
		     strerror(abs(ret)));
}

static void check_results(struct thread *t)
{
	struct flight *f = &t->flight;
	uint32_t i;

	for (i = 0; i < f->num_results; i++)
		if (t->result[i] != f->expected[i])
			fail(t, "result %u of the job: expected %#llx, found %#llx",
			     i, (unsigned long long)f->expected[i],
			     (unsigned long long)t->result[i]);
}

/* Wait for the job in flight, and compare its results. */
static void land(struct thread *t)
{
	struct flight *f = &t->flight;
	struct vsvm_gpu *gpu = &t->gpu[f->device];
	struct drm_vsvm_job_status status = {};
	int ret;

	if (!f->on)
		return;
	f->on = false;
	ret = vsvm_syncobj_wait(gpu->fd, t->syncobj[f->device], 0,
				VSVM_WAIT_MS);
	if (!ret)
		ret = vsvm_job_status(gpu, f->job, &status);
	if (f->device == 1 && option.unbind &&
	    (ret == -ENODEV || status.error == ENODEV)) {
		redo_on_first_device(t);
	} else if (ret || status.error) {
		fail(t, "job %llu: wait: %s, status: %s, op %u (code %u) at %#llx",
		     (unsigned long long)f->job, strerror(-ret),
		     strerror(status.error), status.op,
		     f->ops[status.op % JOB_OPS].op,
		     (unsigned long long)status.address);
		return;
	}
	check_results(t);
}

/* A region that no job works on.  The large one takes its time. */
static struct region *pick_region(struct thread *t)
{
	size_t i = below(t, 3 * REGIONS);
	struct region *r = &t->region[i ? 1 + i % (REGIONS - 1) : 0];

	if (t->flight.regions & (1u << region_index(t, r)))
		land(t);
	return r;
}

/* Some pages of a region, not more than MAX_RUN. */
static struct region *pick_pages(struct thread *t, size_t *first, size_t *n)
{
	struct region *r = pick_region(t);

	*first = below(t, r->npages);
	*n = 1 + below(t, MAX_RUN);
	if (*n > r->npages - *first)
		*n = r->npages - *first;
	return r;
}

/* Some bytes, multiples of 8, all of which allow @prot.  The size may be 0. */
static struct span pick_span(struct thread *t, enum prot prot)
{
	size_t first, n, end, i;
	struct span s;

	s.r = pick_pages(t, &first, &n);
	for (i = 0; i < n && s.r->prot[first + i] >= prot; i++)
		;
	end = (first + i) * page_size;
	s.start = first * page_size + below(t, page_size / 8) * 8;
	s.size = below(t, 2) ? page_size : 8;
	s.size += below(t, n * page_size / 8) * 8;
	if (i == 0)
		s.size = 0;
	else if (s.size > end - s.start)
		s.size = end - s.start;
	return s;
}

static bool overlap(const struct span *a, const struct span *b)
{
	return a->r == b->r && a->start < b->start + b->size &&
	       b->start < a->start + a->size;
}

static char *span_mem(const struct span *s)
{
	return s->r->mem + s->start;
}

static char *span_model(const struct span *s)
{
	return s->r->model + s->start;
}

/*
 * Operations of the CPU.
 */

static void cpu_write(struct thread *t)
{
	struct span s = pick_span(t, WRITE);
	uint64_t seed = random64(t);

	note(t, "CPU writes region %d %#zx+%#zx", region_index(t, s.r),
	     s.start, s.size);
	vsvm_fill(span_mem(&s), s.size, seed);
	vsvm_fill(span_model(&s), s.size, seed);
}

static void cpu_write_byte(struct thread *t)
{
	struct span s = pick_span(t, WRITE);
	size_t k = below(t, 8);
	char value = random64(t);

	note(t, "CPU writes byte region %d %#zx", region_index(t, s.r),
	     s.start + k);
	if (!s.size)
		return;
	span_mem(&s)[k] = value;
	span_model(&s)[k] = value;
}

static void cpu_read(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);

	note(t, "CPU reads region %d pages %zu+%zu", region_index(t, r), first,
	     n);
	check(t, r, first, n);
}

/*
 * Jobs.  The model is changed while the job is made.
 */

struct maker {
	struct thread *t;
	struct flight *f;
	/* It may be executed in part, and then again. */
	bool idempotent;
	size_t len;
	char text[96];
};

static void use(struct maker *m, const struct span *s)
{
	m->f->regions |= 1u << region_index(m->t, s->r);
}

static void *want(struct maker *m, uint64_t value)
{
	m->f->expected[m->f->num_results] = value;
	return &m->t->result[m->f->num_results++];
}

static void add_op(struct maker *m, struct drm_vsvm_op op, const char *name,
		   const struct span *s)
{
	m->f->ops[m->f->num_ops++] = op;
	m->len += snprintf(m->text + m->len, sizeof(m->text) - m->len,
			   " %s %d:%#zx+%#zx", name, region_index(m->t, s->r),
			   s->start, s->size);
	if (m->len >= sizeof(m->text))
		m->len = sizeof(m->text) - 1;
	use(m, s);
}

static void make_fill(struct maker *m)
{
	struct span s = pick_span(m->t, WRITE);
	uint64_t value = random64(m->t);
	size_t i;

	if (!s.size)
		return;
	for (i = 0; i < s.size; i += 8)
		memcpy(span_model(&s) + i, &value, 8);
	add_op(m, vsvm_op_fill(span_mem(&s), s.size, value), "fill", &s);
}

static void make_copy(struct maker *m)
{
	struct span from = pick_span(m->t, READ);
	struct span to = pick_span(m->t, WRITE);
	size_t shift = below(m->t, 8);

	if (from.size > to.size)
		from.size = to.size;
	/* Any byte will do. */
	if (from.size > shift) {
		from.start += shift;
		from.size -= shift;
	}
	to.size = from.size;
	if (!to.size || overlap(&from, &to))
		return;
	memcpy(span_model(&to), span_model(&from), to.size);
	use(m, &from);
	add_op(m, vsvm_op_copy(span_mem(&to), span_mem(&from), to.size), "copy",
	       &to);
}

static void make_add(struct maker *m)
{
	struct span s = pick_span(m->t, WRITE);
	uint64_t value = random64(m->t), old;

	if (!s.size || m->idempotent)
		return;
	memcpy(&old, span_model(&s), 8);
	value += old;
	memcpy(span_model(&s), &value, 8);
	add_op(m, vsvm_op_add(span_mem(&s), value - old, want(m, old)), "add",
	       &s);
}

static void make_cas(struct maker *m)
{
	struct span s = pick_span(m->t, WRITE);
	uint64_t value = random64(m->t), compare, old;
	bool hit = below(m->t, 2);

	if (!s.size || m->idempotent)
		return;
	memcpy(&old, span_model(&s), 8);
	compare = hit ? old : old + 1;
	if (hit)
		memcpy(span_model(&s), &value, 8);
	add_op(m, vsvm_op_cas(span_mem(&s), compare, value, want(m, old)),
	       "cas", &s);
}

static void make_checksum(struct maker *m)
{
	struct span s = pick_span(m->t, READ);

	if (!s.size)
		return;
	add_op(m, vsvm_op_checksum(span_mem(&s), s.size,
				   want(m, vsvm_checksum(span_model(&s),
							 s.size))),
	       "checksum", &s);
}

static void make_muladd(struct maker *m)
{
	struct span to = pick_span(m->t, WRITE);
	struct span from = pick_span(m->t, READ);
	struct span scalar = pick_span(m->t, READ);
	bool same = below(m->t, 4) == 0;
	uint64_t x, y, factor;
	size_t i;

	if (same)
		from = to;
	if (to.size > from.size)
		to.size = from.size;
	from.size = to.size;
	if (!to.size || !scalar.size || (!same && overlap(&to, &from)) ||
	    m->idempotent)
		return;
	memcpy(&factor, span_model(&scalar), 8);
	for (i = 0; i < to.size; i += 8) {
		memcpy(&x, span_model(&from) + i, 8);
		memcpy(&y, span_model(&to) + i, 8);
		y += x * factor;
		memcpy(span_model(&to) + i, &y, 8);
	}
	use(m, &from);
	use(m, &scalar);
	add_op(m, vsvm_op_muladd(span_mem(&to), span_mem(&from),
				 span_mem(&scalar), to.size), "muladd", &to);
}

/* Write to the memory and to the model. */
static void put_word(struct region *r, size_t offset, uint64_t value)
{
	memcpy(r->mem + offset, &value, 8);
	memcpy(r->model + offset, &value, 8);
}

/* A list of nodes of 32 bytes in a span, one in each part of it. */
static void make_walk(struct maker *m)
{
	struct span s = pick_span(m->t, WRITE);
	uint64_t add = random64(m->t), sum = 0, word, next = 0;
	size_t i, n = 1 + below(m->t, 12), at, part;

	/* Its nodes are written by the CPU now, so it has to be the first. */
	part = s.size / n / 8 * 8;
	if (m->f->num_ops || part < 32 || m->idempotent)
		return;
	for (i = 0; i < n; i++) {
		at = s.start + i * part + below(m->t, part / 8 - 3) * 8;
		put_word(s.r, at, next);
		next = (uintptr_t)s.r->mem + at;
		memcpy(&word, s.r->model + at + 16, 8);
		sum += word;
		word += add;
		memcpy(s.r->model + at + 16, &word, 8);
	}
	add_op(m, vsvm_op_walk((void *)next, n + 3, 16, add, want(m, n)),
	       "walk", &s);
	want(m, sum);
}

static void (*const makers[])(struct maker *m) = {
	make_fill, make_fill, make_copy, make_copy, make_add, make_cas,
	make_checksum, make_checksum, make_muladd, make_walk,
};

/* After the device was unbound and bound again, it is another one. */
static int open_device(struct thread *t, int device)
{
	struct vsvm_gpu *gpu = &t->gpu[device];
	int ret;

	gpu->fd = vsvm_open(device);
	if (gpu->fd < 0)
		return gpu->fd;
	ret = vsvm_query(gpu->fd, &gpu->query);
	if (!ret)
		ret = vsvm_vm_create(gpu->fd, &gpu->vm);
	if (!ret)
		ret = vsvm_syncobj_create(gpu->fd, &t->syncobj[device]);
	if (ret) {
		close(gpu->fd);
		gpu->fd = -1;
	}
	return ret;
}

/* Which of the devices there are: the second may come and go. */
static int pick_device(struct thread *t)
{
	struct drm_vsvm_query query;
	int device = below(t, DEVICES);

	if (device != 1)
		return t->gpu[device].fd >= 0 ? device : 0;
	if (t->gpu[1].fd >= 0 && option.unbind &&
	    vsvm_query(t->gpu[1].fd, &query) == -ENODEV) {
		if (t->flight.on && t->flight.device == 1)
			land(t);
		if (t->gpu[1].fd >= 0)
			close(t->gpu[1].fd);
		t->gpu[1].fd = -1;
	}
	if (t->gpu[1].fd < 0 && option.unbind)
		open_device(t, 1);
	return t->gpu[1].fd >= 0 ? 1 : 0;
}

static void gpu_job(struct thread *t)
{
	struct drm_vsvm_sync sync = { .flags = DRM_VSVM_SYNC_SIGNAL };
	struct maker m = { .t = t, .f = &t->flight };
	int chosen = below(t, DEVICES);
	bool wait = below(t, 2);
	size_t i, n = 1 + below(t, JOB_OPS);
	int device, ret;

	land(t);
	memset(&t->flight, 0, sizeof(t->flight));
	/* The job must not depend on whether the device is there. */
	m.idempotent = chosen == 1 && option.unbind;
	device = t->gpu[chosen].fd >= 0 ? chosen : 0;
	if (m.idempotent)
		n = 1;
	for (i = 0; i < n; i++)
		makers[below(t, ARRAY_SIZE(makers))](&m);
	note(t, "job on device %d:%s%s", chosen, m.text, wait ? "" : " async");
	if (!t->flight.num_ops || t->failed)
		return;

	t->jobs++;
	t->flight.device = device;
	sync.handle = t->syncobj[device];
	ret = vsvm_exec(&t->gpu[device], t->flight.ops, t->flight.num_ops,
			&sync, 1, &t->flight.job);
	if (ret == -ENODEV && device == 1 && option.unbind) {
		redo_on_first_device(t);
		check_results(t);
		return;
	}
	if (ret) {
		fail(t, "exec: %s", strerror(-ret));
		return;
	}
	t->flight.on = true;
	if (wait)
		land(t);
}

/* An access that the process could not do either. */
static void gpu_bad(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);
	bool write = below(t, 2);
	char *addr = r->mem + first * page_size + 8 * below(t, page_size / 8);
	struct drm_vsvm_job_status st = {};
	struct drm_vsvm_op op;
	int ret, want;

	if (r->prot[first] >= (write ? WRITE : READ)) {
		note(t, "nothing");
		return;
	}
	want = r->prot[first] == GONE ? EFAULT : EACCES;
	note(t, "device %s region %d page %zu, which it must not",
	     write ? "writes" : "reads", region_index(t, r), first);
	op = write ? vsvm_op_fill(addr, 8, 1) :
		     vsvm_op_checksum(addr, 8, t->result + 100);
	ret = vsvm_run(&t->gpu[0], &op, 1, &st);
	if (ret != want || st.address / page_size !=
			   (uintptr_t)addr / page_size)
		fail(t, "job: %d at %#llx, expected %d at %p", ret,
		     (unsigned long long)st.address, want, addr);
}

/* Words of all threads. */
static void shared_add(struct thread *t)
{
	size_t i = below(t, SHARED_WORDS);
	uint64_t value = below(t, 1 << 20), old, seen;
	uint64_t *word = shared + i * (page_size / 8 / 4);
	int how = below(t, 4), device, tries = 0, ret = 0;

	note(t, "adds to shared word %zu, way %d", i, how);
	t->added[i] += value;
	device = how == 2 && !option.unbind && t->gpu[1].fd >= 0;
	if (t->flight.on && t->flight.device == device)
		land(t);
	t->gpu[device].result = t->result + 200;
	if (how == 0) {
		__atomic_fetch_add(word, value, __ATOMIC_RELAXED);
	} else if (how < 3) {
		ret = vsvm_gpu_add(&t->gpu[device], word, value, &old);
	} else {
		do {
			seen = __atomic_load_n(word, __ATOMIC_RELAXED);
			ret = vsvm_gpu_cas(&t->gpu[device], word, seen,
					   seen + value, &old);
		} while (!ret && old != seen && ++tries < 20);
		if (!ret && old != seen)
			__atomic_fetch_add(word, value, __ATOMIC_RELAXED);
	}
	if (ret)
		fail(t, "shared word: %s", strerror(abs(ret)));
}

/*
 * Places of memory.
 */

static void do_prefetch(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);
	int device = pick_device(t), ret;
	bool up = below(t, 3);
	struct drm_vsvm_prefetch args = {
		.vm_id = t->gpu[device].vm,
		.flags = DRM_VSVM_PREFETCH_PARTIAL,
		.start = (uintptr_t)r->mem + first * page_size,
		.size = n * page_size,
		.place = up ? DRM_VSVM_PLACE_DEVICE : DRM_VSVM_PLACE_SYSTEM,
	};
	uint64_t window = below(t, 3) * page_size;
	uint32_t timeslice = below(t, 8) == 0;

	if (up) {
		args.fault_window = window;
		args.timeslice_ms = timeslice;
	}
	note(t, "prefetch region %d pages %zu+%zu to %s", region_index(t, r),
	     first, n, up ? "the device" : "RAM");
	ret = vsvm_ioctl(t->gpu[device].fd, DRM_IOCTL_VSVM_PREFETCH, &args);
	if (ret && !(ret == -ENOSPC && up) &&
	    !(ret == -ENODEV && device == 1 && option.unbind))
		fail(t, "prefetch: %s", strerror(-ret));
}

static void do_advise(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);
	int device = pick_device(t), ret;
	struct drm_vsvm_advise args = {
		.vm_id = t->gpu[device].vm,
		.start = (uintptr_t)r->mem + first * page_size,
		.size = n * page_size,
		.advice = below(t, 3),
		.timeslice_ms = below(t, 8) == 0,
		.fault_window = below(t, 3) * page_size,
	};

	note(t, "advise region %d pages %zu+%zu as %u", region_index(t, r),
	     first, n, args.advice);
	ret = vsvm_ioctl(t->gpu[device].fd, DRM_IOCTL_VSVM_ADVISE, &args);
	if (ret && !(ret == -ENODEV && device == 1 && option.unbind))
		fail(t, "advise: %s", strerror(-ret));
}

/*
 * Operations of the process on its memory.
 */

static void do_mprotect(struct thread *t)
{
	static const int flags[] = {
		[NONE] = PROT_NONE,
		[READ] = PROT_READ,
		[WRITE] = PROT_READ | PROT_WRITE,
	};
	size_t first, n, i;
	struct region *r = pick_pages(t, &first, &n);
	enum prot prot = below(t, 4);

	/* Mostly it is writable, so that something happens. */
	if (prot == GONE)
		prot = WRITE;
	note(t, "mprotect region %d pages %zu+%zu to %d", region_index(t, r),
	     first, n, prot);
	for (i = first; i < first + n; i++) {
		if (r->prot[i] == GONE)
			continue;
		if (mprotect(r->mem + i * page_size, page_size, flags[prot]))
			fail(t, "mprotect: %s", strerror(errno));
		r->prot[i] = prot;
	}
}

/* New memory, where there is none. */
static void map_again(struct thread *t, struct region *r, size_t first,
		      size_t n)
{
	char *addr = r->mem + first * page_size;

	if (mmap(addr, n * page_size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != addr)
		fail(t, "mmap: %s", strerror(errno));
	memset(r->model + first * page_size, 0, n * page_size);
	memset(r->prot + first, WRITE, n);
}

static void do_munmap(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);

	note(t, "munmap region %d pages %zu+%zu", region_index(t, r), first, n);
	if (munmap(r->mem + first * page_size, n * page_size))
		fail(t, "munmap: %s", strerror(errno));
	memset(r->prot + first, GONE, n);
	memset(r->model + first * page_size, 0, n * page_size);
}

static void do_mmap(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);

	note(t, "mmap region %d pages %zu+%zu", region_index(t, r), first, n);
	map_again(t, r, first, n);
}

/* Everything that is gone comes back, so that there is something to do. */
static void do_mmap_gone(struct thread *t)
{
	struct region *r = pick_region(t);
	size_t i;

	note(t, "mmap what is gone of region %d", region_index(t, r));
	for (i = 0; i < r->npages; i++)
		if (r->prot[i] == GONE)
			map_again(t, r, i, 1);
}

/* To the other half of its slot, at some offset. */
static void do_mremap(struct thread *t)
{
	struct region *r = pick_region(t);
	size_t half = 64 * page_size, i;
	size_t offset = below(t, 64 - SMALL_PAGES + 1) * page_size;
	char *to = r->slot + offset;

	note(t, "mremap region %d to offset %#zx", region_index(t, r), offset);
	if (r->npages == LARGE_PAGES)
		return;
	if (r->mem < r->slot + half)
		to += half;
	/* Page by page, since advice and protection split mappings. */
	for (i = 0; i < r->npages; i++)
		if (r->prot[i] != GONE &&
		    mremap(r->mem + i * page_size, page_size, page_size,
			   MREMAP_MAYMOVE | MREMAP_FIXED,
			   to + i * page_size) == MAP_FAILED)
			fail(t, "mremap: %s", strerror(errno));
	r->mem = to;
}

static const struct {
	int advice;
	const char *name;
} hints[] = {
	{ MADV_PAGEOUT, "pageout" },
	{ MADV_PAGEOUT, "pageout" },
	{ MADV_COLD, "cold" },
	{ MADV_HUGEPAGE, "hugepage" },
	{ MADV_NOHUGEPAGE, "nohugepage" },
	{ MADV_COLLAPSE, "collapse" },
	{ MADV_MERGEABLE, "mergeable" },
	{ MADV_UNMERGEABLE, "unmergeable" },
	{ MADV_POPULATE_READ, "populate" },
	{ MADV_POPULATE_WRITE, "populate for writing" },
};

/* Operations that change no contents, and may fail. */
static void do_hint(struct thread *t)
{
	size_t first, n, i;
	struct region *r = pick_pages(t, &first, &n);

	i = below(t, ARRAY_SIZE(hints));
	if (below(t, 4) == 0) {
		first = 0;
		n = r->npages;
	}
	note(t, "madvise %s region %d pages %zu+%zu", hints[i].name,
	     region_index(t, r), first, n);
	madvise(r->mem + first * page_size, n * page_size, hints[i].advice);
}

static void do_mlock(struct thread *t)
{
	size_t first, n;
	struct region *r = pick_pages(t, &first, &n);
	bool lock = below(t, 2);

	note(t, "%s region %d pages %zu+%zu", lock ? "mlock" : "munlock",
	     region_index(t, r), first, n);
	if (lock)
		mlock(r->mem + first * page_size, n * page_size);
	else
		munlock(r->mem + first * page_size, n * page_size);
}

static void do_dontneed(struct thread *t)
{
	size_t first, n, i;
	struct region *r = pick_pages(t, &first, &n);

	note(t, "madvise dontneed region %d pages %zu+%zu", region_index(t, r),
	     first, n);
	for (i = first; i < first + n; i++) {
		/* Locked memory refuses. */
		if (r->prot[i] == GONE ||
		    madvise(r->mem + i * page_size, page_size, MADV_DONTNEED))
			continue;
		memset(r->model + i * page_size, 0, page_size);
	}
}

/* Free memory without contents: all of it is written to right after. */
static void do_free(struct thread *t)
{
	size_t first, n, i;
	struct region *r = pick_pages(t, &first, &n);
	bool by_device = below(t, 2);
	uint64_t value = random64(t), k;
	int ret = 0;

	note(t, "madvise free region %d pages %zu+%zu, then %s fills",
	     region_index(t, r), first, n, by_device ? "device" : "CPU");
	for (i = first; i < first + n && !ret; i++) {
		if (r->prot[i] != WRITE)
			continue;
		madvise(r->mem + i * page_size, page_size, MADV_FREE);
		for (k = 0; k < page_size; k += 8)
			memcpy(r->model + i * page_size + k, &value, 8);
		if (by_device)
			ret = vsvm_gpu_fill(&t->gpu[0], r->mem + i * page_size,
					    page_size, value);
		else
			memcpy(r->mem + i * page_size,
			       r->model + i * page_size, page_size);
	}
	if (ret)
		fail(t, "fill of freed memory: %s", strerror(abs(ret)));
}

/* Write to some pages, by device and by CPU. */
static int child_copy(struct vsvm_gpu *gpu, char *mem, const char *model)
{
	struct drm_vsvm_op op = vsvm_op_copy(mem, model, page_size);
	struct drm_vsvm_job_status status = {};
	int ret;

	ret = vsvm_run(gpu, &op, 1, &status);
	/* Other threads may have had the locks of stdio. */
	if (ret)
		dprintf(STDOUT_FILENO, "# child: copy %p to %p: %s, at %#llx\n",
			model, mem, strerror(abs(ret)),
			(unsigned long long)status.address);
	return ret ? 3 : 0;
}

static int child_write(struct region *r, struct vsvm_gpu *gpu)
{
	size_t i, step = r->npages / 8;
	char *mem, *model;
	int ret;

	for (i = 0; i < r->npages; i += step) {
		if (r->prot[i] != WRITE)
			continue;
		mem = r->mem + i * page_size;
		model = r->model + i * page_size;
		vsvm_fill(model, page_size, i);
		if (gpu && i % (2 * step) == 0) {
			ret = child_copy(gpu, mem, model);
			if (ret)
				return ret;
		} else {
			memcpy(mem, model, page_size);
		}
	}
	return 0;
}

/* A child verifies its copy, and changes it. */
static int child_work(struct thread *t, unsigned int in_flight, bool with_device)
{
	struct vsvm_gpu gpu;
	struct region *r;
	size_t k;
	int ret;

	t->in_child = true;
	if (with_device && vsvm_gpu_open(&gpu, 0))
		return 2;
	for (k = 0; k < REGIONS; k++) {
		r = &t->region[k];
		if (in_flight & (1u << k))
			continue;
		if (!check(t, r, 0, r->npages))
			return 1;
		ret = child_write(r, with_device ? &gpu : NULL);
		if (ret)
			return ret;
		if (!check(t, r, 0, r->npages))
			return 1;
	}
	return 0;
}

static void reap(struct thread *t)
{
	int status;

	if (!t->child)
		return;
	status = vsvm_wait_child(t->child);
	if (status)
		fail(t, "child ended with status %#x", status);
	t->child = 0;
}

static void do_fork(struct thread *t)
{
	bool with_device = below(t, 4) == 0, wait = below(t, 2);
	unsigned int in_flight;

	note(t, "fork%s%s", with_device ? ", child uses the device" : "",
	     wait ? "" : ", async");
	reap(t);
	in_flight = t->flight.on ? t->flight.regions : 0;
	t->child = fork();
	if (!t->child)
		_exit(child_work(t, in_flight, with_device));
	if (t->child < 0) {
		t->child = 0;
		fail(t, "fork: %s", strerror(errno));
	}
	t->forks++;
	if (wait)
		reap(t);
}

/* All of them, each with its weight. */
static const struct {
	void (*fn)(struct thread *t);
	int weight;
} actions[] = {
	{ gpu_job, 40 }, { cpu_write, 12 }, { cpu_write_byte, 6 },
	{ cpu_read, 14 }, { do_prefetch, 12 }, { shared_add, 10 },
	{ do_advise, 4 }, { do_mprotect, 5 }, { do_munmap, 3 }, { do_mmap, 2 },
	{ do_mmap_gone, 3 }, { do_mremap, 3 }, { do_hint, 6 }, { do_mlock, 2 },
	{ do_dontneed, 3 }, { do_free, 3 }, { gpu_bad, 3 }, { do_fork, 1 },
};

static void act(struct thread *t)
{
	size_t i;
	int x = 0;

	for (i = 0; i < ARRAY_SIZE(actions); i++)
		x += actions[i].weight;
	x = below(t, x);
	for (i = 0; x >= actions[i].weight; i++)
		x -= actions[i].weight;
	actions[i].fn(t);
}

static void check_all(struct thread *t)
{
	size_t i;

	land(t);
	for (i = 0; i < REGIONS && !t->failed; i++)
		check(t, &t->region[i], 0, t->region[i].npages);
}

/* Pages that cannot be read can have changed, too. */
static void make_readable(struct thread *t)
{
	struct region *r;
	size_t i, k;

	for (k = 0; k < REGIONS; k++) {
		r = &t->region[k];
		for (i = 0; i < r->npages; i++) {
			if (r->prot[i] != NONE)
				continue;
			if (mprotect(r->mem + i * page_size, page_size,
				     PROT_READ))
				fail(t, "mprotect: %s", strerror(errno));
			r->prot[i] = READ;
		}
	}
}

static void *run(void *arg)
{
	struct thread *t = arg;

	while (!t->failed && !atomic_load(&stop) &&
	       (!option.ops || t->op < option.ops) &&
	       (!option.seconds || vsvm_now_ms() < deadline)) {
		t->op++;
		act(t);
		if (t->op % CHECK_EVERY == 0 && !t->failed)
			check_all(t);
	}
	if (!t->failed) {
		make_readable(t);
		check_all(t);
	}
	reap(t);
	return NULL;
}

/*
 * The second device goes and comes, in quick succession if the number of times is
 * what ends the test.
 */
static void *run_unbind(void *arg)
{
	useconds_t pause = option.cycles ? 10000 : 100000;
	int *error = arg;

	while (!*error && !atomic_load(&stop) && vsvm_now_ms() < deadline) {
		usleep(4 * pause);
		pthread_mutex_lock(&unbinding);
		*error = vsvm_bind(1, false);
		pthread_mutex_unlock(&unbinding);
		usleep(pause);
		if (!*error)
			*error = vsvm_bind(1, true);
		if (!*error)
			unbinds++;
		if (option.cycles && unbinds == option.cycles)
			atomic_store(&stop, true);
	}
	return NULL;
}

/* Slots of different threads lie beside each other. */
static int make_regions(struct thread *t, char *large, char *small)
{
	size_t slot = 128 * page_size, i;
	struct region *r;

	for (i = 0; i < REGIONS; i++) {
		r = &t->region[i];
		r->npages = i ? SMALL_PAGES : LARGE_PAGES;
		r->slot = i ? small + (i * option.threads + t->index) * slot :
			      large + t->index * LARGE_PAGES * page_size;
		r->mem = r->slot;
		r->model = calloc(r->npages, page_size);
		if (!r->model || munmap(r->slot, i ? slot : r->npages *
							   page_size))
			return -ENOMEM;
		map_again(t, r, 0, r->npages);
	}
	return 0;
}

static int setup(void)
{
	size_t slots = MAX_THREADS * REGIONS * 128 * page_size, i;
	char *large, *small;
	int ret;

	/* Nothing else may be mapped where memory was unmapped. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_ARENA_MAX, 1);
	large = vsvm_alloc(option.threads * LARGE_PAGES * page_size,
			   LARGE_PAGES * page_size);
	small = vsvm_alloc(slots, 1 << 21);
	shared = vsvm_alloc(SHARED_WORDS / 4 * page_size, page_size);
	if (!large || !small || !shared)
		return -ENOMEM;

	for (i = 0; i < option.threads; i++) {
		struct thread *t = &threads[i];

		t->index = i;
		t->random = option.seed * MAX_THREADS + i;
		t->result = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (t->result == MAP_FAILED)
			return -ENOMEM;
		ret = open_device(t, 0);
		if (ret)
			return ret;
		open_device(t, 1);
		open_device(t, 2);
	}
	/* Now there will be holes. */
	for (i = 0; i < option.threads; i++) {
		ret = make_regions(&threads[i], large, small);
		if (ret)
			return ret;
	}
	return 0;
}

static bool check_shared(void)
{
	uint64_t sum, found;
	bool good = true;
	int i, k;

	for (i = 0; i < SHARED_WORDS; i++) {
		for (sum = 0, k = 0; k < option.threads; k++)
			sum += threads[k].added[i];
		found = shared[i * (page_size / 8 / 4)];
		if (found == sum)
			continue;
		ksft_print_msg("shared word %d: expected %llu, found %llu\n", i,
			       (unsigned long long)sum,
			       (unsigned long long)found);
		good = false;
	}
	return good;
}

/* All memory of the process, its models included, goes with its mappings. */
static bool check_device_memory(const struct drm_vsvm_stats *before)
{
	struct thread *t;
	struct drm_vsvm_stats after = {};
	int i, k, ret;
	size_t j;

	for (i = 0; i < option.threads; i++) {
		t = &threads[i];
		for (k = 0; k < REGIONS; k++) {
			munmap(t->region[k].mem,
			       t->region[k].npages * page_size);
			/* The device of a child may have moved it for both. */
			for (j = 0; j < t->region[k].npages; j++)
				vsvm_touch(t->region[k].model + j * page_size);
		}
	}
	munmap(shared, SHARED_WORDS / 4 * page_size);
	ret = vsvm_wait_used(threads[0].gpu[0].fd, before->vram_used);
	if (ret) {
		vsvm_stats(threads[0].gpu[0].fd, &after);
		ksft_print_msg("%llu KiB of device memory in use, not %llu: %s\n",
			       (unsigned long long)after.vram_used >> 10,
			       (unsigned long long)before->vram_used >> 10,
			       strerror(-ret));
	}
	return !ret;
}

static void report(double took, const struct drm_vsvm_stats *before)
{
	struct drm_vsvm_stats after = {};
	uint64_t ops = 0;
	int i;

	vsvm_stats(threads[0].gpu[0].fd, &after);
	for (i = 0; i < option.threads; i++) {
		ops += threads[i].op;
		ksft_test_result(!threads[i].failed,
				 "thread %d: memory is as it should be\n", i);
		ksft_print_msg("thread %d: %llu operations (%#llx), %llu jobs, %llu forks\n",
			       i, (unsigned long long)threads[i].op,
			       (unsigned long long)threads[i].digest,
			       (unsigned long long)threads[i].jobs,
			       (unsigned long long)threads[i].forks);
	}
	ksft_test_result(check_shared(), "shared words have the right totals\n");
	ksft_print_msg("seed %llu: %llu operations in %.1f s\n",
		       (unsigned long long)option.seed, (unsigned long long)ops,
		       took / 1e3);
	ksft_print_msg("device 0: %llu jobs, %llu GPU faults, %llu evictions\n",
		       (unsigned long long)(after.jobs - before->jobs),
		       (unsigned long long)(after.gpu_faults -
					    before->gpu_faults),
		       (unsigned long long)(after.evictions -
					    before->evictions));
}

static void parse(int argc, char **argv)
{
	const struct vsvm_option options[] = {
		{ "seed", "VSVM_ORACLE_SEED", false, &option.seed },
		{ "seconds", "VSVM_ORACLE_SECONDS", false, &option.seconds },
		{ "ops", NULL, false, &option.ops },
		{ "threads", NULL, false, &option.threads },
		{ "unbind", "VSVM_ORACLE_UNBIND", true, &option.unbind },
		{ "cycles", "VSVM_ORACLE_CYCLES", false, &option.cycles },
	};

	option.seed = vsvm_new_seed();
	if (vsvm_parse_options(argc, argv, options, ARRAY_SIZE(options)) &&
	    option.threads >= 1 && option.threads <= MAX_THREADS &&
	    (option.seconds || option.ops || option.cycles)) {
		option.unbind |= !!option.cycles;
		return;
	}
	fprintf(stderr,
		"vsvm_oracle [--seed N] [--seconds S] [--ops N] [--threads N] [--unbind] [--cycles N]\n"
		"--cycles ends the test when the second device has been unbound and bound that often.\n"
		"Defaults are in VSVM_ORACLE_SEED, _SECONDS, _UNBIND and _CYCLES.\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct drm_vsvm_stats before;
	pthread_t unbind;
	int i, ret, unbind_error = 0;
	double began;

	page_size = getpagesize();
	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(option.threads + 2 + !!option.unbind);
	ksft_print_msg("seed %llu, %llu threads\n",
		       (unsigned long long)option.seed,
		       (unsigned long long)option.threads);
	ret = setup();
	if (ret)
		ksft_exit_fail_msg("cannot start: %s\n", strerror(-ret));
	if (vsvm_stats(threads[0].gpu[0].fd, &before))
		ksft_exit_fail_msg("no counters\n");

	began = vsvm_now_ms();
	deadline = began + (option.seconds ? option.seconds * 1e3 : 1e12);
	for (i = 0; i < option.threads; i++)
		if (pthread_create(&threads[i].thread, NULL, run, &threads[i]))
			ksft_exit_fail_msg("no thread\n");
	if (option.unbind &&
	    pthread_create(&unbind, NULL, run_unbind, &unbind_error))
		ksft_exit_fail_msg("no thread\n");
	for (i = 0; i < option.threads; i++)
		pthread_join(threads[i].thread, NULL);
	atomic_store(&stop, true);
	if (option.unbind)
		pthread_join(unbind, NULL);

	report(vsvm_now_ms() - began, &before);
	if (option.unbind)
		ksft_test_result(!unbind_error && unbinds >= option.cycles,
				 "unbind and bind\n");
	ksft_print_msg("device 1: unbound and bound %llu times\n",
		       (unsigned long long)unbinds);
	/* After a failure, jobs and children may still use some. */
	ksft_test_result(!ksft_get_fail_cnt() && check_device_memory(&before),
			 "device memory is given back\n");
	ksft_finished();
}
