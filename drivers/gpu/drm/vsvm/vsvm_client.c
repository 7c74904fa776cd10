// SPDX-License-Identifier: GPL-2.0-only
/*
 * Clients: open files, the users that have them, whose jobs share workers, and
 * what all devices have in common.
 */

#include <linux/cleanup.h>
#include <linux/cpumask.h>
#include <linux/cred.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uidgid.h>
#include <linux/user_namespace.h>
#include <linux/workqueue.h>

#include "vsvm_drv.h"

/* Least number of a user's VMs that may run or fault at a time. */
#define VSVM_MIN_WORKERS	4

static bool peers = true;
module_param(peers, bool, 0644);
MODULE_PARM_DESC(peers, "Whether devices reach each other's memory (default yes)");

static unsigned long long coherent[VSVM_MAX_DEVICES];
module_param_array(coherent, ullong, NULL, 0444);
MODULE_PARM_DESC(coherent,
		 "Of each device, physical address of memory that the CPU accesses, too, set aside by memmap=SIZE$ADDRESS (0: none)");

/* Its address is what counts. */
static char vsvm_owner_cookie;

/**
 * vsvm_owner() - The owner cookie of all device pages
 *
 * One for all devices, since they understand each other's addresses.
 *
 * Return: The cookie.
 */
void *vsvm_owner(void)
{
	return &vsvm_owner_cookie;
}

/**
 * vsvm_peers_reachable() - Whether devices reach each other's memory
 *
 * Return: False if the interconnect is switched off.
 */
bool vsvm_peers_reachable(void)
{
	return READ_ONCE(peers);
}

/**
 * vsvm_coherent() - The memory of a device that the CPU accesses, too
 * @index: Index of the device.
 *
 * Return: Its physical address, 0 if the device has private memory.
 */
u64 vsvm_coherent(unsigned int index)
{
	return coherent[index];
}

/**
 * vsvm_any_coherent() - Whether there is such memory
 *
 * Return: True if a device has some.
 */
bool vsvm_any_coherent(void)
{
	return memchr_inv(coherent, 0, sizeof(coherent));
}

/**
 * vsvm_client_create() - Make the client of an open file
 *
 * Return: The client with a reference, or NULL if there is no memory.
 */
struct vsvm_client *vsvm_client_create(void)
{
	struct vsvm_client *client;

	client = kzalloc(sizeof(*client), GFP_KERNEL_ACCOUNT);
	if (!client)
		return NULL;

	kref_init(&client->ref);
	INIT_LIST_HEAD(&client->bos);
	xa_init_flags(&client->vms, XA_FLAGS_ALLOC1 | XA_FLAGS_ACCOUNT);
	return client;
}

static void vsvm_client_release(struct kref *ref)
{
	struct vsvm_client *client = container_of(ref, struct vsvm_client, ref);

	xa_destroy(&client->vms);
	kfree(client);
}

/**
 * vsvm_client_put() - Drop a reference to a client
 * @client: The client.
 */
void vsvm_client_put(struct vsvm_client *client)
{
	kref_put(&client->ref, vsvm_client_release);
}

/*
 * Users.
 */

/**
 * struct vsvm_user - who shares workers
 * @ref: One for each VM.
 * @link: In vsvm_users.
 * @uid: The user ID.
 * @ns: The user namespace, if @uid is privileged and has made one.  Counted.
 * @wq: The workers.
 */
struct vsvm_user {
	struct kref ref;
	struct list_head link;
	kuid_t uid;
	struct user_namespace *ns;
	struct workqueue_struct *wq;
};

/* Protects the list, and the way of a reference count from zero to it. */
static DEFINE_MUTEX(vsvm_users_lock);
static LIST_HEAD(vsvm_users);

/* Closes VMs whose file is gone.  Each may wait for its process. */
static struct workqueue_struct *vsvm_closers;

/*
 * Who answers for the caller.  Inside a user namespace that is the user who made
 * it, and who may have thousands of user IDs there, all of them one user here.  What
 * the administrator makes is for others, such as a container, and is one user each.
 */
static void vsvm_user_identify(kuid_t *uid, struct user_namespace **made)
{
	struct user_namespace *ns = current_user_ns();

	*uid = current_uid();
	*made = NULL;
	for (; ns != &init_user_ns; ns = ns->parent) {
		*uid = ns->owner;
		*made = ns;
	}
	if (!uid_eq(*uid, GLOBAL_ROOT_UID))
		*made = NULL;
}

static void vsvm_user_free(struct vsvm_user *user)
{
	destroy_workqueue(user->wq);
	put_user_ns(user->ns);
	kfree(user);
}

static struct vsvm_user *vsvm_user_create(kuid_t uid, struct user_namespace *ns)
{
	struct vsvm_user *user;

	user = kzalloc(sizeof(*user), GFP_KERNEL_ACCOUNT);
	if (!user)
		return ERR_PTR(-ENOMEM);

	user->wq = alloc_workqueue("vsvm-%u", WQ_UNBOUND,
				   clamp_t(int, num_online_cpus(),
					   VSVM_MIN_WORKERS, WQ_MAX_ACTIVE),
				   from_kuid(&init_user_ns, uid));
	if (!user->wq) {
		kfree(user);
		return ERR_PTR(-ENOMEM);
	}

	kref_init(&user->ref);
	user->uid = uid;
	user->ns = ns ? get_user_ns(ns) : NULL;
	return user;
}

static struct vsvm_user *vsvm_user_find(kuid_t uid, struct user_namespace *ns)
{
	struct vsvm_user *user;

	lockdep_assert_held(&vsvm_users_lock);

	list_for_each_entry(user, &vsvm_users, link) {
		if (!uid_eq(user->uid, uid) || user->ns != ns)
			continue;
		/* Each of a process's VMs is told whenever a page of it changes. */
		if (kref_read(&user->ref) >= VSVM_MAX_USER_VMS)
			return ERR_PTR(-ENOSPC);
		kref_get(&user->ref);
		return user;
	}
	return NULL;
}

/**
 * vsvm_user_get() - Find the workers of the calling user, or make them
 *
 * Return: The user with a reference, for one VM; -ENOMEM, or -ENOSPC if the user
 * has too many VMs.
 */
struct vsvm_user *vsvm_user_get(void)
{
	struct vsvm_user *user, *new;
	struct user_namespace *ns;
	kuid_t uid;

	vsvm_user_identify(&uid, &ns);
	scoped_guard(mutex, &vsvm_users_lock)
		user = vsvm_user_find(uid, ns);
	if (user)
		return user;

	/* Without the lock: a user's memory limit must not delay others. */
	new = vsvm_user_create(uid, ns);
	if (IS_ERR(new))
		return new;

	scoped_guard(mutex, &vsvm_users_lock) {
		user = vsvm_user_find(uid, ns);
		if (!user)
			list_add(&new->link, &vsvm_users);
	}
	if (!user)
		return new;

	vsvm_user_free(new);
	return user;
}

static void vsvm_user_release(struct kref *ref)
{
	struct vsvm_user *user = container_of(ref, struct vsvm_user, ref);

	list_del(&user->link);
	mutex_unlock(&vsvm_users_lock);

	vsvm_user_free(user);
}

/**
 * vsvm_user_put() - Drop a reference to a user
 * @user: The user.
 *
 * Context: Process context, with no lock held that a worker takes.  Sleeps.
 */
void vsvm_user_put(struct vsvm_user *user)
{
	kref_put_mutex(&user->ref, vsvm_user_release, &vsvm_users_lock);
}

/**
 * vsvm_client_kick() - Have the worker of a VM look for something to do
 * @vm: The VM.
 *
 * Context: Any.
 */
void vsvm_client_kick(struct vsvm_vm *vm)
{
	queue_work(vm->user->wq, &vm->queue.work);
}

/**
 * vsvm_client_close() - Have somebody close a VM
 * @vm: The VM, whose reference goes to &vsvm_vm.close_work.
 *
 * Context: Any.
 */
void vsvm_client_close(struct vsvm_vm *vm)
{
	queue_work(vsvm_closers, &vm->close_work);
}

/**
 * vsvm_clients_init() - Set up what all clients need
 *
 * Return: 0 or -ENOMEM.
 */
int vsvm_clients_init(void)
{
	vsvm_closers = alloc_workqueue("vsvm-close", WQ_UNBOUND, WQ_MAX_ACTIVE);
	return vsvm_closers ? 0 : -ENOMEM;
}

/**
 * vsvm_clients_exit() - Undo vsvm_clients_init()
 *
 * Waits for the VMs that are being closed.
 *
 * Context: No file is open.
 */
void vsvm_clients_exit(void)
{
	destroy_workqueue(vsvm_closers);
}
