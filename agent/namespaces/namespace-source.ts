import type { Cidr } from '../capture/cidr.ts';

/** A network namespace of this host that is to be captured, such as that of a pod or a container. */
export interface DeclaredNamespace {
  /** By which it is told from all others, in status and log. */
  readonly name: string;
  /** As entries call it: `netns:name:LABEL`. Those that one pattern names have one in common. */
  readonly label: string;
  /** Where it is mounted while it is there. */
  readonly path: string;
  /** What its workloads are reached at, in canonical spelling: of this namespace alone. Never what its interfaces say, which whoever is root in it may change. */
  readonly addresses: readonly string[];
  /** Networks of whose addresses the host's routes may lead to it as well; none for one whose addresses are configured. */
  readonly routedIn: readonly Cidr[];
}

/** Namespaces that come and go in a folder, such as those that CNI plug-ins make for pods. */
export interface NamespacePattern {
  /** Of all of them. */
  readonly label: string;
  readonly folder: string;
  /** Of file names: `*` stands for anything, `?` for one letter. */
  readonly pattern: string;
  readonly routedIn: readonly Cidr[];
  /** So many are captured at once; what comes beyond stays closed. */
  readonly most: number;
}

/** What a configuration says of other namespaces of its host. */
export interface NamespaceSettings {
  readonly named: readonly DeclaredNamespace[];
  readonly patterns: readonly NamespacePattern[];
}

/** Which namespaces are to be captured. */
export interface NamespaceSource {
  /** All that were to be captured when it was looked last, whether they are there or not; of each name one. Asked for each connection. */
  list(): readonly DeclaredNamespace[];
}
