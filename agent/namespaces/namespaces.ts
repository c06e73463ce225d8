import { encodeIpAddress } from '../../shared/runtime/ip-address.ts';
import { isInNetwork, type Cidr } from '../capture/cidr.ts';
import { isHostAddress } from '../directory/host-address.ts';
import type { NetworkNamespace } from '../native/network-namespace.ts';
import type { DeclaredNamespace, NamespaceSource } from './namespace-source.ts';

/** Who is reached at an address of a declared namespace: nobody while it is not captured. */
export type NamespaceAtAddress =
  { readonly kind: 'captured'; readonly namespace: NetworkNamespace } | { readonly kind: 'closed' };

export interface NamespacesOptions {
  readonly source: NamespaceSource;
  /** All networks of which the addresses are those of namespaces to which the host's routes lead, whether there is one or not. */
  readonly routedIn?: readonly Cidr[];
  /** To which of some namespaces the host's routes lead, by address in canonical spelling. Never throws. */
  readonly findRouted?: (
    namespaces: readonly NetworkNamespace[],
  ) => ReadonlyMap<string, Pick<NetworkNamespace, 'cookie'>>;
  /** Whether an address in canonical spelling is the host's own, which is never a namespace's by a route. */
  readonly isOwnAddress?: (address: string) => boolean;
  /** Does something a moment later: however many come and go by then, the routes are read once, and it is told once. At once unless given. */
  readonly soon?: (work: () => void) => void;
}

/** What became of who is reached where. */
export interface NamespacesChange {
  /** Whether a namespace is captured no more, or an address leads elsewhere, or nowhere: what was allowed may stand on it. */
  readonly isLoss: boolean;
  /** What leads somewhere now, and did not, or to another one: nothing that is open stands on it. */
  readonly gained: readonly string[];
}

/** One that is captured, or about to be, and as what it was declared. */
interface Member {
  readonly namespace: NetworkNamespace;
  readonly declared: DeclaredNamespace;
  /** Before that it is closed. */
  isCaptured: boolean;
}

/** The captured namespaces of this host, for the parts that ask where somebody lives. */
export class Namespaces {
  readonly #options: NamespacesOptions;
  readonly #members = new Map<string, Member>();
  readonly #listeners = new Set<(change: NamespacesChange) => void>();
  #labels: ReadonlyMap<string, string> = new Map();
  #routed: ReadonlyMap<string, Member> = new Map();
  /** Of these what was told. */
  #told: ReadonlyMap<string, Member> = new Map();
  #declared = new DeclaredIndex([]);
  /** While it is about to be told: until it was. */
  #due: PromiseWithResolvers<void> | undefined;
  #isLoss = false;

  constructor(options: NamespacesOptions) {
    this.#options = options;
  }

  /** The namespace to which an address in canonical spelling belongs; undefined: to none. */
  findAt(address: string): NamespaceAtAddress | undefined {
    const { routedIn = [], isOwnAddress } = this.#options;
    const declared = this.#index.byAddress.get(address);
    if (declared !== undefined) return answerOf(this.#members.get(declared.name));
    if (!isIn(routedIn, address) || isOwnAddress?.(address) === true) return undefined;
    return answerOf(this.#routed.get(address));
  }

  /** What a namespace is reached at. */
  addressesOf({ name }: Pick<NetworkNamespace, 'name'>): readonly string[] {
    const named = this.findDeclared({ name })?.addresses ?? [];
    const routed = Array.from(this.#routed).filter(([, { declared }]) => declared.name === name);
    return [...named, ...routed.map(([address]) => address)];
  }

  /** As what a namespace is declared; undefined: it is no more. */
  findDeclared({ name }: Pick<NetworkNamespace, 'name'>): DeclaredNamespace | undefined {
    return this.#index.byName.get(name);
  }

  /** The addresses to which routes lead, and where. */
  routes(): readonly (readonly [address: string, NetworkNamespace])[] {
    return Array.from(this.#routed, ([address, { namespace }]) => [address, namespace]);
  }

  /** The addresses of all that are declared, and those of the others that are captured and to which a route leads. */
  addresses(): readonly string[] {
    return [...this.#index.byAddress.keys(), ...capturedAt(this.#routed).keys()];
  }

  /** As entries call the captured namespace of which /proc says this, such as `net:[4026532008]`. */
  findLabel(link: string): string | undefined {
    return this.#labels.get(link);
  }

  /** Calls `listener` after a namespace was let go, or an address leads elsewhere. */
  watch(listener: (change: NamespacesChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** It is about to be captured, and closed until it is. Resolves once it is known what it is reached at: the rules within stand on that, and must not be open before they are right. */
  async expect(namespace: NetworkNamespace, declared: DeclaredNamespace): Promise<void> {
    this.#members.set(declared.name, { namespace, declared, isCaptured: false });
    if (declared.routedIn.length > 0) await this.#membersChanged();
  }

  /** It is captured from now on. */
  add(namespace: NetworkNamespace, declared: DeclaredNamespace): void {
    const expected = this.#members.get(declared.name);
    if (expected?.namespace === namespace) expected.isCaptured = true;
    else this.#members.set(declared.name, { namespace, declared, isCaptured: true });
    void this.#membersChanged();
  }

  /** It is captured no more, or not after all. */
  remove(namespace: NetworkNamespace): void {
    const gone = this.#members.get(namespace.name);
    if (gone?.namespace !== namespace) return;
    this.#members.delete(namespace.name);
    this.#routed = new Map(Array.from(this.#routed).filter(([, member]) => member !== gone));
    // Nothing stands on what was never captured.
    if (!gone.isCaptured) return;
    this.#isLoss = true;
    void this.#membersChanged();
  }

  /** Looks again where the host's routes lead. */
  followRoutes(): void {
    const before = this.#told;
    this.#routed = this.#findRouted();
    const now = capturedAt(this.#routed);
    const gained = Array.from(now).filter(([address, member]) => before.get(address) !== member);
    const isLoss = this.#isLoss || Array.from(before).some(([address, was]) => now.get(address) !== was);
    this.#told = now;
    this.#isLoss = false;
    if (!isLoss && gained.length === 0) return;
    const change = { isLoss, gained: gained.map(([address]) => address) };
    for (const listener of Array.from(this.#listeners)) listener(change);
  }

  get #index(): DeclaredIndex {
    const list = this.#options.source.list();
    if (this.#declared.list !== list) this.#declared = new DeclaredIndex(list);
    return this.#declared;
  }

  /** Resolves once the routes were read with those that are members now. */
  async #membersChanged(): Promise<void> {
    const captured = Array.from(this.#members.values()).filter(({ isCaptured }) => isCaptured);
    this.#labels = new Map(captured.map(({ namespace, declared }) => [namespace.link, declared.label]));
    if (this.#due !== undefined) return await this.#due.promise;
    const due = (this.#due = Promise.withResolvers<void>());
    const { soon = atOnce } = this.#options;
    soon(() => {
      this.#due = undefined;
      try {
        this.followRoutes();
      } finally {
        due.resolve();
      }
    });
    await due.promise;
  }

  /** Each address only in the networks of its own namespace, and never one that is somebody's by configuration. */
  #findRouted(): ReadonlyMap<string, Member> {
    const { findRouted, isOwnAddress } = this.#options;
    const routed = Array.from(this.#members.values()).filter(({ declared }) => declared.routedIn.length > 0);
    if (findRouted === undefined || routed.length === 0) return new Map();
    const byCookie = new Map(routed.map((member) => [member.namespace.cookie, member]));
    const configured = this.#index.byAddress;
    const found = new Map<string, Member>();
    for (const [address, { cookie }] of findRouted(routed.map(({ namespace }) => namespace))) {
      const member = byCookie.get(cookie);
      const isTaken = configured.has(address) || isOwnAddress?.(address) === true || !isHostAddress(address);
      if (member !== undefined && !isTaken && isIn(member.declared.routedIn, address))
        found.set(address, member);
    }
    return found;
  }
}

/** What is declared, by what it is asked for with each connection. */
class DeclaredIndex {
  readonly list: readonly DeclaredNamespace[];
  readonly byName: ReadonlyMap<string, DeclaredNamespace>;
  readonly byAddress: ReadonlyMap<string, DeclaredNamespace>;

  constructor(list: readonly DeclaredNamespace[]) {
    this.list = list;
    this.byName = new Map(list.map((each) => [each.name, each]));
    this.byAddress = new Map(
      list.flatMap((each) => each.addresses.map((address) => [address, each] as const)),
    );
  }
}

function atOnce(work: () => void): void {
  work();
}

function capturedAt(routed: ReadonlyMap<string, Member>): ReadonlyMap<string, Member> {
  return new Map(Array.from(routed).filter(([, { isCaptured }]) => isCaptured));
}

function answerOf(member: Member | undefined): NamespaceAtAddress {
  if (member?.isCaptured !== true || member.namespace.isClosed) return { kind: 'closed' };
  return { kind: 'captured', namespace: member.namespace };
}

function isIn(networks: readonly Cidr[], address: string): boolean {
  // What has a zone is an address of one interface, and in no network.
  if (networks.length === 0 || address.includes('%')) return false;
  const bytes = encodeIpAddress(address);
  return networks.some((network) => isInNetwork(network, bytes));
}
