import { BpfFolder } from './bpf-folder.ts';
import {
  linkCgroup,
  openProgram,
  readCgroupLink,
  readProgramId,
  readProgramTag,
  replaceProgram,
  type CgroupLink,
} from './bpf-link.ts';
import {
  createMap,
  dropElement,
  findElement,
  hasShape,
  listKeys,
  putElement,
  readMapId,
  type MapShape,
} from './bpf-map.ts';
import { findCgroupId, openCgroup } from './cgroup.ts';
import { Descriptors } from './descriptors.ts';
import { allocateNative, libc } from './libc.ts';
import { loadHook, STEERING_HOOKS, type SteeringHook } from './steering-hooks.ts';
import {
  ADDRESS_BYTES,
  COOKIE_BYTES,
  decodeRecord,
  describeNetwork,
  describeNumber,
  encodeSteeringAddress,
  MAX_OWN_ADDRESSES,
  RECORD_BYTES,
  recordsShape,
  STEERING_MAPS,
  type SteeringRecord,
} from './steering-maps.ts';
import {
  fillSteeringSets,
  MAP_NAMES,
  MEMBER,
  readSteeringTypes,
  type SteeringSettings,
} from './steering-sets.ts';

export interface SteeringOptions {
  /** Of a BPF file system, and of this agent alone. */
  readonly folder: string;
  /** The folder of the cgroup whose sockets are steered, with those of all cgroups below it. */
  readonly cgroup: string;
  /** Captured connections that are remembered at once. */
  readonly maxRecords: number;
  /** Who owns the folder. */
  readonly ownerUid: number;
  /** Of the network namespace whose sockets are steered: `readNetnsCookie`. */
  readonly netnsCookie: () => bigint;
}

const MARKER = 'netns_';
type MapName = keyof typeof MAP_NAMES;

/**
 * The steering programs of one network namespace, attached to a cgroup by links that outlive this process: then what they steer is refused, since nobody listens. All
 * is pinned in one folder. Whoever finds the folder there takes the programs over. Where a method says nothing else it throws `unavailable`, reason `bpf`, `btf` or `netns_cookie`, for what the kernel or the
 * privileges (CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON) do not let it do.
 */
export class Steering {
  readonly #folder: BpfFolder;
  readonly #options: SteeringOptions;
  /** The numbers of the programs that were attached, by hook. */
  readonly #programIds = new Map<string, number>();
  #own: number | undefined;
  #records: number | undefined;

  constructor(options: SteeringOptions) {
    this.#options = options;
    this.#folder = new BpfFolder(options.folder, options.ownerUid);
  }

  /**
   * Attaches programs with these settings, or puts them in the place of those that are there, hook by hook; connections and their records stay. Throws
   * `failed_precondition` as well, reason `bpf_folder` or `cgroup_missing`.
   */
  install(settings: SteeringSettings, ownAddresses: readonly string[]): void {
    this.#folder.make();
    using opened = new Descriptors();
    const cgroup = opened.add(openCgroup(this.#options.cgroup));
    // Records outlive a change of settings, as the connections do.
    const records = this.#takeOver('records', this.#records);
    const own = this.#takeOver('own', this.#own);
    [this.#records, this.#own] = [records, own];
    this.setOwnAddresses(ownAddresses);
    const maps = { ...fillSteeringSets(settings, opened), own, records };
    const parts = { ...settings, types: readSteeringTypes(), netnsCookie: this.#options.netnsCookie(), maps };
    // First all are loaded, so that a kernel that refuses one of them keeps what it has.
    const programs = STEERING_HOOKS.map((hook) => ({ hook, fd: opened.add(loadHook(hook, parts)) }));
    for (const { hook, fd } of programs) this.#attach(hook, { programFd: fd, cgroupFd: cgroup, opened });
    for (const [name, fd] of Object.entries(maps)) this.#folder.pin(name, fd);
    this.#mark(own);
  }

  /** Loads the programs without attaching them. Throws as `install`. */
  tryOut(settings: SteeringSettings): void {
    this.#folder.requireBpf();
    using opened = new Descriptors();
    opened.add(openCgroup(this.#options.cgroup));
    const made = (name: MapName): number => opened.add(createMap(this.#shape(name), MAP_NAMES[name]));
    const maps = { ...fillSteeringSets(settings, opened), own: made('own'), records: made('records') };
    const parts = { ...settings, types: readSteeringTypes(), netnsCookie: this.#options.netnsCookie(), maps };
    for (const hook of STEERING_HOOKS) opened.add(loadHook(hook, parts));
  }

  /** Whether the programs that were installed last are attached where they were. */
  isIntact(): boolean {
    return STEERING_HOOKS.every((hook) => {
      using opened = new Descriptors();
      const link = this.#openLink(hook, opened);
      return link !== undefined && link.programId === this.#programIds.get(hook.name);
    });
  }

  /** Whether programs of this network namespace are pinned, by whichever process. */
  get isThere(): boolean {
    const names = this.#folder.list();
    return names.length > 0 && names.includes(this.#marker());
  }

  /** Tells the programs the addresses of this host beside loopback. What goes to one that they do not know yet is captured. */
  setOwnAddresses(addresses: readonly string[]): void {
    const own = this.#own;
    if (own === undefined) return;
    const known = new Map(
      listKeys(own, ADDRESS_BYTES, MAX_OWN_ADDRESSES).map((key) => [key.toString('hex'), key]),
    );
    const wanted = new Map(
      addresses
        .slice(0, MAX_OWN_ADDRESSES)
        .map(encodeSteeringAddress)
        .map((key) => [Buffer.from(key).toString('hex'), key]),
    );
    for (const [text, key] of known) if (!wanted.has(text)) dropElement(own, key);
    for (const [text, key] of wanted) if (!known.has(text)) putElement(own, key, MEMBER);
  }

  /** What was written down of a captured connection, by the cookie of the socket that made it; undefined where nothing was, or it was pushed out by newer ones. */
  findRecord(cookie: bigint): SteeringRecord | undefined {
    const value = this.#findValue(cookie) ?? (this.#followRecords() ? this.#findValue(cookie) : undefined);
    return value === undefined ? undefined : decodeRecord(value);
  }

  /** How many connections are remembered now. */
  countRecords(): number {
    this.#followRecords();
    if (this.#records === undefined) return 0;
    return listKeys(this.#records, COOKIE_BYTES, this.#options.maxRecords).length;
  }

  /** What is pinned and where it is attached, as text; empty where nothing is. */
  describe(): string {
    if (this.#folder.list().length === 0) return '';
    const lines = STEERING_HOOKS.map((hook) => this.#describeHook(hook));
    const members = [
      ...this.#listKeys('numbers').map(describeNumber),
      ...this.#listKeys('networks').map(describeNetwork),
    ].toSorted();
    return [...lines, ...members.map((member) => `    ${member}`), ''].join('\n');
  }

  /** Detaches the programs and takes away all that is pinned. */
  remove(): void {
    this.#folder.remove();
    this.close();
    this.#programIds.clear();
  }

  /** Closes what this process has open; what is pinned stays. */
  close(): void {
    for (const fd of [this.#own, this.#records]) if (fd !== undefined) libc().close(fd);
    this.#own = undefined;
    this.#records = undefined;
  }

  /** A name says whose programs they are. Those of a namespace that is gone are taken over. */
  #mark(fd: number): void {
    const marker = this.#marker();
    for (const name of this.#folder.list())
      if (name.startsWith(MARKER) && name !== marker) this.#folder.drop(name);
    this.#folder.pin(marker, fd);
  }

  #marker(): string {
    return `${MARKER}${this.#options.netnsCookie().toString(16)}`;
  }

  #findValue(cookie: bigint): Buffer | undefined {
    if (this.#records === undefined) return undefined;
    cookieKey.writeBigUInt64LE(cookie, 0);
    return findElement(this.#records, cookieKey, RECORD_BYTES);
  }

  /** Whether another process has installed other programs meanwhile, with records of their own. */
  #followRecords(): boolean {
    const pinned = this.#folder.open('records');
    if (pinned === undefined) return false;
    const known = this.#records;
    if (known !== undefined && readMapId(known) === readMapId(pinned)) {
      libc().close(pinned);
      return false;
    }
    if (known !== undefined) libc().close(known);
    this.#records = pinned;
    return true;
  }

  #takeOver(name: 'own' | 'records', opened: number | undefined): number {
    const found = opened ?? this.#folder.open(name);
    if (found !== undefined && hasShape(found, this.#shape(name))) return found;
    if (found !== undefined) libc().close(found);
    return createMap(this.#shape(name), MAP_NAMES[name]);
  }

  #shape(name: MapName): MapShape {
    return name === 'records' ? recordsShape(this.#options.maxRecords) : STEERING_MAPS[name];
  }

  /** A link that is ours is kept and its program replaced: at no moment is none attached. */
  #attach(
    hook: SteeringHook,
    {
      programFd,
      cgroupFd,
      opened,
    }: { readonly programFd: number; readonly cgroupFd: number; readonly opened: Descriptors },
  ): void {
    const link = this.#openLink(hook, opened);
    if (link === undefined)
      this.#folder.pin(hook.name, opened.add(linkCgroup(programFd, cgroupFd, hook.attachType)));
    else replaceProgram(link.fd, programFd);
    this.#programIds.set(hook.name, readProgramId(programFd));
  }

  /** The pinned link of a hook, if it is attached where it should be. */
  #openLink(
    { name, attachType }: SteeringHook,
    opened: Descriptors,
  ): (CgroupLink & { readonly fd: number }) | undefined {
    const fd = this.#folder.open(name);
    if (fd === undefined) return undefined;
    opened.add(fd);
    const link = readCgroupLink(fd);
    if (link?.attachType !== attachType) return undefined;
    return link.cgroupId === findCgroupId(this.#options.cgroup) ? { ...link, fd } : undefined;
  }

  #describeHook(hook: SteeringHook): string {
    using opened = new Descriptors();
    const link = this.#openLink(hook, opened);
    if (link === undefined) return `  ${hook.name}: MISSING`;
    return `  ${hook.name}: program ${readProgramTag(opened.add(openProgram(link.programId)))}`;
  }

  #listKeys(name: 'numbers' | 'networks'): readonly Buffer[] {
    const fd = this.#folder.open(name);
    if (fd === undefined) return [];
    using opened = new Descriptors();
    const { keyBytes, maxEntries } = STEERING_MAPS[name];
    return listKeys(opened.add(fd), keyBytes, maxEntries);
  }
}

const cookieKey = allocateNative(COOKIE_BYTES);
