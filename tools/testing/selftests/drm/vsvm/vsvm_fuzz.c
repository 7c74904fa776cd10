// SPDX-License-Identifier: GPL-2.0-only
/*
 * A fuzzer: processes that do anything to their memory and to the device, in
 * any order, with valid and with invalid arguments.
 *
 * Each process has an arena of pages, which it has in common with the others at
 * the start, and knows the contents of each.  A worker changes the contents,
 * and checks them.  Beside it, a storm does everything to the same memory that
 * must not change contents, and calls the device with garbage.  The operations
 * of the threads depend on the seed and the number of the process alone; their
 * timing does not.
 *
 * All words of a page are equal, and there are few values, so that pages can be
 * merged.
 */

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/const.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include "../../kselftest.h"
#include "vsvm_util.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define MAX_PROCESSES	16
#define ARENA_PAGES	512
#define TRASH_PAGES	16
#define MAX_RUN		24
#define VALUES		5
#define LOG_LINES	24
#define PM_SOFT_DIRTY	_BITULL(55)
#define KERNEL_ADDRESS	0xffff888000001000ULL

/* The contents that a page must have, or may have. */
struct model {
	uint64_t value;
	/* Given away: may be zero. */
	bool freed;
	/* ksmd may replace the page, and loses the record of writes. */
	bool mergeable;
};

/* A process's report to the first one, in shared memory. */
struct report {
	uint64_t ops;
	uint64_t storms;
	uint64_t digest;
	bool done;
	bool failed;
	char text[256];
	char log[LOG_LINES][96];
};

struct random {
	uint64_t state;
};

struct fuzz {
	struct random random;
	struct report *report;
	struct vsvm_gpu gpu[2];
	struct model model[ARENA_PAGES];
	int index;
	int uffd;
};

/* A run of pages. */
struct span {
	size_t first;
	size_t n;
};

static struct {
	uint64_t seed;
	uint64_t ops;
	uint64_t seconds;
	uint64_t processes;
} option = { .seconds = 10, .processes = 3 };

static size_t page_size;
static double deadline;
static char *arena, *scratch, *trash;
static struct model first_model[ARENA_PAGES];
static struct report *reports;
static atomic_bool stop;
/* Held while a page is elsewhere, so that nothing is mapped in its place. */
static pthread_mutex_t hole = PTHREAD_MUTEX_INITIALIZER;

static uint64_t random64(struct random *r)
{
	return vsvm_random(&r->state);
}

static size_t below(struct random *r, size_t n)
{
	return random64(r) % n;
}

static struct span pick(struct random *r)
{
	struct span run = { .first = below(r, ARENA_PAGES) };

	run.n = 1 + below(r, below(r, 16) ? MAX_RUN : ARENA_PAGES);
	if (run.n > ARENA_PAGES - run.first)
		run.n = ARENA_PAGES - run.first;
	return run;
}

static char *at(struct span run)
{
	return arena + run.first * page_size;
}

static size_t bytes(struct span run)
{
	return run.n * page_size;
}

static uint64_t pick_value(struct random *r)
{
	return below(r, VALUES) * 0x0101010101010101ULL;
}

static __printf(2, 3) void note(struct fuzz *f, const char *format, ...)
{
	char *line = f->report->log[f->report->ops % LOG_LINES];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(f->report->log[0]), format, args);
	va_end(args);
	for (; *line; line++)
		f->report->digest = (f->report->digest ^
				     (unsigned char)*line) * 0x100000001b3;
}

static __printf(2, 3) void fail(struct fuzz *f, const char *format, ...)
{
	va_list args;

	if (f->report->failed)
		return;
	va_start(args, format);
	vsnprintf(f->report->text, sizeof(f->report->text), format, args);
	va_end(args);
	f->report->failed = true;
}

/* Compare contents, at the place of the pages or elsewhere, with the model. */
static bool check_at(struct fuzz *f, struct span run, const char *mem)
{
	const struct model *m = &f->model[run.first];
	uint64_t word, first;
	size_t i, k;

	for (i = 0; i < run.n; i++, m++, mem += page_size) {
		memcpy(&first, mem, 8);
		for (k = 0; k < page_size; k += 8) {
			memcpy(&word, mem + k, 8);
			if (word == m->value || (m->freed && !word))
				continue;
			fail(f, "page %zu offset %#zx: expected %#llx%s, found %#llx, first %#llx",
			     run.first + i, k, (unsigned long long)m->value,
			     m->freed ? " or 0" : "", (unsigned long long)word,
			     (unsigned long long)first);
			return false;
		}
	}
	return true;
}

static bool check(struct fuzz *f, struct span run)
{
	return check_at(f, run, at(run));
}

static void cpu_fill(char *mem, size_t size, uint64_t value)
{
	size_t i;

	for (i = 0; i < size; i += 8)
		memcpy(mem + i, &value, 8);
}

static void now_is(struct fuzz *f, struct span run, uint64_t value)
{
	size_t i;

	for (i = run.first; i < run.first + run.n; i++) {
		f->model[i].value = value;
		f->model[i].freed = false;
	}
}

/* Claim discarded pages again, so that their contents are known. */
static void claim(struct fuzz *f, struct span run)
{
	struct span one = { .n = 1 };
	size_t i;

	for (i = run.first; i < run.first + run.n; i++) {
		if (!f->model[i].freed)
			continue;
		one.first = i;
		if (!check(f, one))
			return;
		cpu_fill(at(one), page_size, f->model[i].value);
		f->model[i].freed = false;
	}
}

/*
 * The worker: operations that change contents.
 */

static void cpu_write(struct fuzz *f)
{
	struct span run = pick(&f->random);
	uint64_t value = pick_value(&f->random);

	note(f, "CPU writes %zu+%zu", run.first, run.n);
	cpu_fill(at(run), bytes(run), value);
	now_is(f, run, value);
}

static void cpu_read(struct fuzz *f)
{
	struct span run = pick(&f->random);

	note(f, "CPU reads %zu+%zu", run.first, run.n);
	check(f, run);
}

static struct drm_vsvm_op make_op(struct fuzz *f, struct span run)
{
	struct span from = pick(&f->random), one = { .n = 1 };
	uint64_t value = pick_value(&f->random);
	size_t i, kind = below(&f->random, 3);
	struct model *m = f->model;

	one.first = below(&f->random, ARENA_PAGES);
	if (from.n > run.n)
		from.n = run.n;
	if (!kind || from.n < run.n || (from.first < run.first + run.n &&
					run.first < from.first + from.n)) {
		note(f, "device fills %zu+%zu", run.first, run.n);
		now_is(f, run, value);
		return vsvm_op_fill(at(run), bytes(run), value);
	}
	claim(f, run);
	claim(f, from);
	claim(f, one);
	value = m[one.first].value;
	note(f, "device %s %zu+%zu from %zu", kind == 1 ? "copies" : "adds",
	     run.first, run.n, from.first);
	for (i = 0; i < run.n; i++)
		m[run.first + i].value = m[from.first + i].value *
					 (kind == 1 ? 1 : value) +
					 (kind == 1 ? 0 :
						      m[run.first + i].value);
	if (kind == 1)
		return vsvm_op_copy(at(run), at(from), bytes(run));
	return vsvm_op_muladd(at(run), at(from), at(one), bytes(run));
}

/*
 * The scalar may be in the run: its old and its new value belong to different
 * ops.
 */
static bool scalar_is_apart(const struct drm_vsvm_op *op)
{
	return op->scalar < op->dst || op->scalar >= op->dst + op->size;
}

static void neutral(struct fuzz *f, struct random *r);

static void gpu_job(struct fuzz *f)
{
	struct vsvm_gpu *gpu = &f->gpu[below(&f->random, 2)];
	struct drm_vsvm_job_status status = {};
	struct span run = pick(&f->random);
	struct model before[ARENA_PAGES];
	struct drm_vsvm_op op;
	uint64_t job;
	int ret, i;

	memcpy(before, f->model, sizeof(before));
	op = make_op(f, run);
	if (op.op == DRM_VSVM_OP_MULADD && !scalar_is_apart(&op)) {
		memcpy(f->model, before, sizeof(before));
		claim(f, (struct span) { 0, ARENA_PAGES });
		return;
	}
	ret = vsvm_exec(gpu, &op, 1, NULL, 0, &job);
	for (i = below(&f->random, 4); !ret && i; i--)
		neutral(f, &f->random);
	while (!ret && (ret = vsvm_job_status(gpu, job, &status)) == -EBUSY) {
		ret = 0;
		usleep(200);
	}
	if (ret || status.error)
		fail(f, "job: %s, status %s at %#llx", strerror(-ret),
		     strerror(status.error),
		     (unsigned long long)status.address);
	else if (below(&f->random, 2))
		check(f, run);
}

static void do_dontneed(struct fuzz *f)
{
	struct span run = pick(&f->random), one = { .n = 1 };

	note(f, "madvise dontneed %zu+%zu", run.first, run.n);
	for (one.first = run.first; one.first < run.first + run.n; one.first++)
		if (!madvise(at(one), page_size, MADV_DONTNEED))
			now_is(f, one, 0);
}

static void do_free(struct fuzz *f)
{
	struct span run = pick(&f->random), one = { .n = 1 };

	note(f, "madvise free %zu+%zu", run.first, run.n);
	for (one.first = run.first; one.first < run.first + run.n; one.first++)
		if (!madvise(at(one), page_size, MADV_FREE))
			f->model[one.first].freed = true;
}

static void do_mmap(struct fuzz *f)
{
	struct span run = pick(&f->random);
	size_t i;

	note(f, "mmap %zu+%zu", run.first, run.n);
	if (mmap(at(run), bytes(run), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED)
		fail(f, "mmap: %s", strerror(errno));
	now_is(f, run, 0);
	for (i = run.first; i < run.first + run.n; i++)
		f->model[i].mergeable = false;
}

/* There and back, and its contents with it. */
static void there_and_back(struct fuzz *f, struct span one, int leave)
{
	char *to = scratch + one.first * page_size;

	if (mremap(at(one), page_size, page_size,
		   MREMAP_MAYMOVE | MREMAP_FIXED | leave, to) != to) {
		fail(f, "mremap: %s", strerror(errno));
		return;
	}
	if (!check_at(f, one, to))
		return;
	if (mremap(to, page_size, page_size, MREMAP_MAYMOVE | MREMAP_FIXED,
		   at(one)) != at(one) ||
	    mmap(to, page_size, PROT_NONE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != to)
		fail(f, "mremap back: %s", strerror(errno));
}

/* The storm finds a hole, or zeroes. */
static void do_mremap(struct fuzz *f)
{
	int leave = below(&f->random, 2) ? MREMAP_DONTUNMAP : 0;
	struct span run = pick(&f->random), one = { .n = 1 };

	note(f, "mremap %zu+%zu%s", run.first, run.n,
	     leave ? ", leaving zeroes" : "");
	for (one.first = run.first; one.first < run.first + run.n &&
	     !f->report->failed; one.first++) {
		pthread_mutex_lock(&hole);
		there_and_back(f, one, leave);
		pthread_mutex_unlock(&hole);
	}
}

/* Read-only pages are not written. */
static void do_mprotect(struct fuzz *f)
{
	struct span run = pick(&f->random);
	int ret;

	note(f, "mprotect %zu+%zu", run.first, run.n);
	if (mprotect(at(run), bytes(run), PROT_READ)) {
		fail(f, "mprotect: %s", strerror(errno));
		return;
	}
	ret = vsvm_gpu_fill(&f->gpu[0], at(run), page_size, 99);
	if (ret != EACCES)
		fail(f, "device writes to read-only page: %d", ret);
	check(f, run);
	if (mprotect(at(run), bytes(run), PROT_READ | PROT_WRITE))
		fail(f, "mprotect: %s", strerror(errno));
}

static void do_merge(struct fuzz *f)
{
	struct span run = pick(&f->random);
	bool merge = below(&f->random, 3);
	size_t i;

	note(f, "madvise %smergeable %zu+%zu", merge ? "" : "un", run.first,
	     run.n);
	if (madvise(at(run), bytes(run),
		    merge ? MADV_MERGEABLE : MADV_UNMERGEABLE) && errno != EAGAIN)
		fail(f, "madvise: %s", strerror(errno));
	for (i = run.first; i < run.first + run.n; i++)
		f->model[i].mergeable |= merge;
}

/* Every write shows, by CPU or device. */
static void do_soft_dirty(struct fuzz *f)
{
	struct span run = pick(&f->random);
	bool device = below(&f->random, 2);
	uint64_t entry[ARENA_PAGES];
	int fd, ret = 0;
	size_t i;
	off_t pos = ((uintptr_t)arena / page_size + run.first) * 8;

	note(f, "soft-dirty %zu+%zu by %s", run.first, run.n,
	     device ? "device" : "CPU");
	if (!vsvm_has_soft_dirty() ||
	    vsvm_write_file("/proc/self/clear_refs", "4"))
		return;
	if (device)
		ret = vsvm_gpu_fill(&f->gpu[0], at(run), bytes(run), 0);
	else
		cpu_fill(at(run), bytes(run), 0);
	now_is(f, run, 0);
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (ret || fd < 0 || pread(fd, entry, run.n * 8, pos) !=
			     (ssize_t)run.n * 8)
		fail(f, "soft-dirty: %s", strerror(ret ? abs(ret) : errno));
	close(fd);
	for (i = 0; i < run.n && !f->report->failed; i++)
		if (!(entry[i] & PM_SOFT_DIRTY) &&
		    !f->model[run.first + i].mergeable)
			fail(f, "page %zu was written by the %s, and is not soft-dirty: %#llx",
			     run.first + i, device ? "device" : "CPU",
			     (unsigned long long)entry[i]);
}

/* Page by page to a range of userfaultfd, and copied back. */
static void do_uffd_move(struct fuzz *f)
{
	struct span run = pick(&f->random), one = { .n = 1 };
	struct uffdio_move args;
	char *to;

	note(f, "UFFDIO_MOVE %zu+%zu", run.first, run.n);
	if (f->uffd < 0)
		return;
	claim(f, run);
	for (one.first = run.first; one.first < run.first + run.n &&
	     !f->report->failed; one.first++) {
		/* Beyond what mremap() uses. */
		to = scratch + (ARENA_PAGES + one.first) * page_size;
		args = (struct uffdio_move) {
			.dst = (uintptr_t)to,
			.src = (uintptr_t)at(one),
			.len = page_size,
		};
		if (ioctl(f->uffd, UFFDIO_MOVE, &args))
			continue;
		check_at(f, one, to);
		memcpy(at(one), to, page_size);
		madvise(to, page_size, MADV_DONTNEED);
	}
}

/* By the kernel, as if from another process. */
static void do_proc_mem(struct fuzz *f)
{
	static uint64_t buffer[512 * 8];
	struct span run = pick(&f->random);
	uint64_t value = pick_value(&f->random);
	struct iovec local, remote;
	bool write = below(&f->random, 2);
	ssize_t n;

	if (bytes(run) > sizeof(buffer))
		run.n = sizeof(buffer) / page_size;
	note(f, "process_vm_%sv %zu+%zu", write ? "write" : "read", run.first,
	     run.n);
	local = (struct iovec) { buffer, bytes(run) };
	remote = (struct iovec) { at(run), bytes(run) };
	cpu_fill((char *)buffer, bytes(run), value);
	n = write ? process_vm_writev(getpid(), &local, 1, &remote, 1, 0) :
		    process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
	if (n != (ssize_t)bytes(run))
		fail(f, "process_vm: %zd of %zu", n, bytes(run));
	else if (write)
		now_is(f, run, value);
	else
		check_at(f, run, (char *)buffer);
}

/*
 * A child has the same contents, whatever its parent does, and ends in one way
 * or another.
 */
static int child_work(struct fuzz *f, struct span run, unsigned int how)
{
	struct span all = { 0, ARENA_PAGES };
	struct vsvm_gpu gpu;

	if (!check(f, run))
		return 1;
	cpu_fill(at(run), bytes(run), 1);
	now_is(f, run, 1);
	if (how & 1) {
		if (vsvm_gpu_open(&gpu, 0))
			return 2;
		if (vsvm_gpu_fill(&gpu, at(run), bytes(run), 2))
			return 3;
		now_is(f, run, 2);
	}
	if (how & 2)
		raise(SIGKILL);
	if (how & 4)
		execl("/bin/true", "true", NULL);
	return check(f, all) ? 0 : 4;
}

static void do_fork(struct fuzz *f)
{
	struct span run = pick(&f->random);
	unsigned int how = below(&f->random, 8);
	int status;
	pid_t pid;

	note(f, "fork, child writes %zu+%zu, way %u", run.first, run.n, how);
	pid = fork();
	if (!pid)
		_exit(child_work(f, run, how));
	if (pid > 0 && below(&f->random, 2))
		cpu_write(f);
	status = vsvm_wait_child(pid);
	if (status != (how & 2 ? SIGKILL : 0))
		fail(f, "child ended with %#x", status);
}

/*
 * For the storm, and for the worker, too: operations that change no contents.
 */

static const int hints[] = {
	MADV_PAGEOUT, MADV_COLD, MADV_COLLAPSE, MADV_HUGEPAGE, MADV_NOHUGEPAGE,
	MADV_POPULATE_WRITE, MADV_WILLNEED,
};

static void hint(struct fuzz *f, struct random *r)
{
	struct span run = pick(r);
	int advice = hints[below(r, ARRAY_SIZE(hints))];

	if (advice == MADV_COLLAPSE || below(r, 4) == 0)
		run = (struct span) { 0, ARENA_PAGES };
	madvise(at(run), bytes(run), advice);
}

static void lock(struct fuzz *f, struct random *r)
{
	struct span run = pick(r);

	if (below(r, 2))
		mlock(at(run), bytes(run));
	else
		munlock(at(run), bytes(run));
}

static void prefetch(struct fuzz *f, struct random *r)
{
	struct span run = pick(r);
	struct vsvm_gpu *gpu = &f->gpu[below(r, 2)];
	struct drm_vsvm_prefetch args = {
		.vm_id = gpu->vm,
		.flags = below(r, 4) ? DRM_VSVM_PREFETCH_PARTIAL : 0,
		.start = (uintptr_t)at(run),
		.size = bytes(run),
		.place = DRM_VSVM_PLACE_SYSTEM + below(r, 2),
	};

	if (args.place == DRM_VSVM_PLACE_DEVICE) {
		args.fault_window = below(r, 3) * page_size;
		args.timeslice_ms = below(r, 4);
	}
	vsvm_ioctl(gpu->fd, DRM_IOCTL_VSVM_PREFETCH, &args);
}

static void advise(struct fuzz *f, struct random *r)
{
	struct span run = pick(r);

	vsvm_advise(&f->gpu[below(r, 2)], at(run), bytes(run), below(r, 3));
}

static void look(struct fuzz *f, struct random *r)
{
	struct drm_vsvm_page pages[ARENA_PAGES];
	struct span run = pick(r);

	vsvm_residency(&f->gpu[below(r, 2)], at(run), bytes(run), pages);
}

static void move(struct fuzz *f, struct random *r)
{
	int nodes[MAX_RUN], status[MAX_RUN];
	void *pages[MAX_RUN];
	struct span run = pick(r);
	size_t i;

	if (run.n > MAX_RUN)
		run.n = MAX_RUN;
	for (i = 0; i < run.n; i++) {
		nodes[i] = below(r, 2);
		pages[i] = at(run) + i * page_size;
	}
	syscall(SYS_move_pages, 0, run.n, pages, below(r, 4) ? nodes : NULL,
		status, MPOL_MF_MOVE);
}

static void into_pipe(struct fuzz *f, struct random *r)
{
	static __thread char buffer[16 * 4096];
	struct span run = pick(r);
	struct iovec iov = { at(run), bytes(run) };
	ssize_t n;
	int fd[2];

	if (iov.iov_len > sizeof(buffer))
		iov.iov_len = sizeof(buffer);
	if (pipe(fd))
		return;
	n = vmsplice(fd[1], &iov, 1, SPLICE_F_NONBLOCK);
	if (below(r, 2))
		prefetch(f, r);
	if (n > 0 && read(fd[0], buffer, n) != n)
		fail(f, "what was spliced cannot be read: %s", strerror(errno));
	close(fd[0]);
	close(fd[1]);
}

typedef void (*neutral_fn)(struct fuzz *f, struct random *r);

static void neutral(struct fuzz *f, struct random *r)
{
	static const neutral_fn fn[] = {
		hint, hint, lock, prefetch, prefetch, prefetch, advise, look,
		move, into_pipe,
	};

	fn[below(r, ARRAY_SIZE(fn))](f, r);
}

/*
 * Garbage.  It can only write to trash, or to unmapped memory.
 */

static uint64_t garbage(struct random *r)
{
	uintptr_t somewhere = (uintptr_t)trash + below(r, TRASH_PAGES) *
			      page_size;
	const uint64_t values[] = {
		0, 1, 2, 8, 4096, below(r, 64), 1ULL << (32 + below(r, 32)),
		somewhere, somewhere, somewhere, somewhere + 1,
		(uintptr_t)trash - 4096, KERNEL_ADDRESS, -1, -4096,
		(1ULL << 47) - 4096, random64(r) | 1ULL << 63,
	};

	return values[below(r, ARRAY_SIZE(values))];
}

static uint32_t flags(struct random *r)
{
	return below(r, 4) ? 0 : garbage(r);
}

/* Other programs test endless loops. */
static struct drm_vsvm_op garbage_op(struct random *r)
{
	return (struct drm_vsvm_op) {
		.op = below(r, 9),
		.flags = flags(r),
		.dst = below(r, 2) ? garbage(r) : 0,
		.src = below(r, 2) ? garbage(r) : 0,
		.scalar = below(r, 4) ? 0 : garbage(r),
		.size = below(r, 2) ? 64 * below(r, 4096) : garbage(r),
		.count = below(r, 4) ? 0 : below(r, 1000),
		.value = below(r, 2) ? 0 : garbage(r),
		.compare = below(r, 4) ? 0 : garbage(r),
		.offset = below(r, 4) ? 0 : garbage(r),
		.result = below(r, 2) ? 0 : garbage(r),
	};
}

static void garbage_exec(struct vsvm_gpu *gpu, struct random *r)
{
	struct drm_vsvm_op op[4];
	struct drm_vsvm_sync sync = { garbage(r), flags(r), garbage(r) };
	struct drm_vsvm_exec args = {
		.vm_id = below(r, 8) ? gpu->vm : garbage(r),
		.flags = flags(r),
		.ops = below(r, 8) ? (uintptr_t)op : garbage(r),
		.syncs = below(r, 2) ? (uintptr_t)&sync : garbage(r),
		.num_ops = below(r, 8) ? 1 + below(r, 4) : garbage(r),
		.num_syncs = below(r, 4) ? 0 : garbage(r),
	};
	size_t i;

	for (i = 0; i < ARRAY_SIZE(op); i++)
		op[i] = garbage_op(r);
	/* Signals would end it, but there are none. */
	ioctl(gpu->fd, DRM_IOCTL_VSVM_EXEC, &args);
}

static void garbage_ioctl(struct vsvm_gpu *gpu, struct random *r)
{
	uint64_t args[64];
	unsigned int nr = DRM_COMMAND_BASE + below(r, 10);
	size_t i, size = below(r, 2) ? 8 * below(r, 12) : below(r, 512);

	for (i = 0; i < ARRAY_SIZE(args); i++)
		args[i] = garbage(r);
	/* Mostly the existing VM, and no flags. */
	if (below(r, 4))
		args[0] = gpu->vm;
	if (nr == DRM_COMMAND_BASE + DRM_VSVM_EXEC)
		garbage_exec(gpu, r);
	else
		ioctl(gpu->fd, _IOC(below(r, 4), 'd', nr, size),
		      below(r, 8) ? (void *)args : (void *)garbage(r));
}

static void storm_fork(struct fuzz *f, struct random *r)
{
	struct span run = pick(r);
	size_t i;
	pid_t pid;

	pthread_mutex_lock(&hole);
	pid = fork();
	pthread_mutex_unlock(&hole);
	if (!pid) {
		for (i = 0; i < run.n; i++)
			vsvm_touch(at(run) + i * page_size);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void *storm(void *arg)
{
	struct fuzz *f = arg;
	struct random random = { option.seed * 64 + 32 + f->index };
	struct vsvm_gpu gpu = { .fd = -1 };
	size_t what;

	while (!atomic_load(&stop)) {
		f->report->storms++;
		what = below(&random, 200);
		if (what < 60 && gpu.fd >= 0)
			garbage_ioctl(&gpu, &random);
		else if (what < 70)
			vsvm_gpu_close(&gpu);
		else if (what < 72)
			storm_fork(f, &random);
		else if (what < 73)
			vsvm_write_file("/proc/sys/vm/compact_memory", "1");
		else
			neutral(f, &random);
		if (gpu.fd < 0) {
			pthread_mutex_lock(&hole);
			vsvm_gpu_open(&gpu, below(&random, 2));
			pthread_mutex_unlock(&hole);
		}
	}
	vsvm_gpu_close(&gpu);
	return NULL;
}

static const struct {
	void (*fn)(struct fuzz *f);
	int weight;
} actions[] = {
	{ gpu_job, 30 }, { cpu_write, 8 }, { cpu_read, 8 }, { do_dontneed, 3 },
	{ do_free, 3 }, { do_mmap, 3 }, { do_mremap, 2 }, { do_mprotect, 4 },
	{ do_merge, 3 }, { do_soft_dirty, 2 }, { do_uffd_move, 2 },
	{ do_proc_mem, 4 }, { do_fork, 2 },
};

static void act(struct fuzz *f)
{
	size_t i;
	int x = 0;

	for (i = 0; i < ARRAY_SIZE(actions); i++)
		x += actions[i].weight;
	x = below(&f->random, x);
	for (i = 0; x >= actions[i].weight; i++)
		x -= actions[i].weight;
	actions[i].fn(f);
}

static int open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = {
			(uintptr_t)scratch + ARENA_PAGES * page_size,
			ARENA_PAGES * page_size,
		},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) ||
			ioctl(fd, UFFDIO_REGISTER, &reg))) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int run_process(int index)
{
	static struct fuzz fuzz;
	struct fuzz *f = &fuzz;
	pthread_t thread;

	f->index = index;
	f->report = &reports[index];
	f->random.state = option.seed * 64 + index;
	f->uffd = open_uffd();
	memcpy(f->model, first_model, sizeof(f->model));
	if (vsvm_gpu_open(&f->gpu[0], 0))
		return 1;
	if (vsvm_gpu_open(&f->gpu[1], 1) && vsvm_gpu_open(&f->gpu[1], 0))
		return 1;
	if (pthread_create(&thread, NULL, storm, f))
		return 1;
	while (!f->report->failed && vsvm_now_ms() < deadline &&
	       (!option.ops || f->report->ops < option.ops)) {
		f->report->ops++;
		act(f);
	}
	if (!f->report->failed)
		check(f, (struct span) { 0, ARENA_PAGES });
	atomic_store(&stop, true);
	pthread_join(thread, NULL);
	f->report->done = true;
	return 0;
}

static int setup(void)
{
	size_t size = ARENA_PAGES * page_size, i;
	struct random r = { option.seed };

	arena = vsvm_alloc(size, size);
	scratch = vsvm_alloc(2 * size, size);
	trash = vsvm_alloc(TRASH_PAGES * page_size, page_size);
	reports = mmap(NULL, sizeof(*reports) * MAX_PROCESSES,
		       PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		       0);
	if (!arena || !scratch || !trash || reports == MAP_FAILED)
		return -ENOMEM;
	for (i = 0; i < ARENA_PAGES; i++) {
		first_model[i].value = pick_value(&r);
		cpu_fill(arena + i * page_size, page_size,
			 first_model[i].value);
	}
	return 0;
}

/* A process that does not end in time hangs. */
static int wait_process(pid_t pid)
{
	int status = -1;

	while (waitpid(pid, &status, WNOHANG) == 0) {
		if (vsvm_now_ms() > deadline + VSVM_WAIT_MS) {
			kill(pid, SIGKILL);
			return -ETIME;
		}
		usleep(20 * 1000);
	}
	return status;
}

static bool report(int i, int status)
{
	struct report *r = &reports[i];
	uint64_t line;

	ksft_print_msg("process %d: %llu operations (%#llx), %llu of the storm\n",
		       i, (unsigned long long)r->ops,
		       (unsigned long long)r->digest,
		       (unsigned long long)r->storms);
	if (!status && r->done && !r->failed)
		return true;
	ksft_print_msg("FAILED: seed %llu process %d operation %llu, status %#x: %s\n",
		       (unsigned long long)option.seed, i,
		       (unsigned long long)r->ops, status, r->text);
	line = r->ops < LOG_LINES ? 0 : r->ops - LOG_LINES + 1;
	for (; line <= r->ops; line++)
		ksft_print_msg("  %s\n", r->log[line % LOG_LINES]);
	return false;
}

/* Memory shared with the processes, which moved it, comes back. */
static bool check_after(int fd, uint64_t used)
{
	size_t size = ARENA_PAGES * page_size, i, k;
	bool good = true;
	uint64_t word;

	for (i = 0; i < ARENA_PAGES; i++) {
		for (k = 0; k < page_size; k += 8) {
			memcpy(&word, arena + i * page_size + k, 8);
			good = good && word == first_model[i].value;
		}
	}
	if (!good)
		ksft_print_msg("memory of the first process has changed\n");
	munmap(arena, size);
	munmap(scratch, 2 * size);
	munmap(trash, TRASH_PAGES * page_size);
	if (vsvm_wait_used_ms(fd, used, 20000)) {
		ksft_print_msg("device memory is still in use\n");
		good = false;
	}
	return good;
}

static void parse(int argc, char **argv)
{
	const struct vsvm_option options[] = {
		{ "seed", "VSVM_FUZZ_SEED", false, &option.seed },
		{ "seconds", "VSVM_FUZZ_SECONDS", false, &option.seconds },
		{ "ops", NULL, false, &option.ops },
		{ "processes", NULL, false, &option.processes },
	};

	option.seed = vsvm_new_seed();
	if (vsvm_parse_options(argc, argv, options, ARRAY_SIZE(options)) &&
	    option.processes >= 1 && option.processes <= MAX_PROCESSES)
		return;
	fprintf(stderr,
		"vsvm_fuzz [--seed N] [--seconds S] [--ops N] [--processes N]\n"
		"Defaults are in VSVM_FUZZ_SEED and VSVM_FUZZ_SECONDS.\n");
	exit(2);
}

int main(int argc, char **argv)
{
	struct drm_vsvm_stats before;
	pid_t pid[MAX_PROCESSES];
	int fd, i, status[MAX_PROCESSES];

	page_size = getpagesize();
	parse(argc, argv);
	setvbuf(stdout, NULL, _IOLBF, 0);
	ksft_print_header();
	ksft_set_plan(option.processes + 1);
	ksft_print_msg("seed %llu, %llu processes\n",
		       (unsigned long long)option.seed,
		       (unsigned long long)option.processes);
	fd = vsvm_open(0);
	if (fd < 0 || vsvm_stats(fd, &before) || setup())
		ksft_exit_fail_msg("cannot start\n");
	deadline = vsvm_now_ms() + (option.seconds ? option.seconds * 1e3 :
						     1e12);
	for (i = 0; i < option.processes; i++) {
		pid[i] = fork();
		if (!pid[i])
			_exit(run_process(i));
		if (pid[i] < 0)
			ksft_exit_fail_msg("no process\n");
	}
	for (i = 0; i < option.processes; i++)
		status[i] = wait_process(pid[i]);
	for (i = 0; i < option.processes; i++)
		ksft_test_result(report(i, status[i]),
				 "process %d: memory is as it should be\n", i);
	ksft_test_result(check_after(fd, before.vram_used),
			 "the parent's memory is unchanged, and device memory is given back\n");
	ksft_finished();
}
