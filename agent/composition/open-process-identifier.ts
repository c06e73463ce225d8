import type { Entry } from '../../shared/protocol/registration.ts';
import type { Clock } from '../../shared/runtime/clock.ts';
import type { Log } from '../../shared/runtime/log.ts';
import type { Watched } from '../../shared/runtime/watched-value.ts';
import { openHolderFinder, type HolderFinderAdapters } from './open-holder-finder.ts';
import { isDigestWanted } from '../workload-attestation/earned-entries.ts';
import type { HolderFinder } from '../workload-attestation/holder-finder.ts';
import { createProcessIdentifier } from '../workload-attestation/process-identifier.ts';
import type { ProcessIdentifier, SenderIdentifier } from '../workload-attestation/process-identity.ts';
import type { UnixAttestorOptions } from '../workload-attestation/unix.ts';
import type { WorkloadAttestor } from '../workload-attestation/workload-attestor.ts';

/** The adapters that identification stands on, which only a composition root may name. */
export interface IdentifierAdapters extends HolderFinderAdapters {
  readonly unix: (options: UnixAttestorOptions) => WorkloadAttestor;
  readonly netns: (findName: (link: string) => string | undefined) => WorkloadAttestor;
}

/** What finds the workload behind a socket of this host, and the part of it that is to be closed at the end. */
export interface OpenedIdentifier {
  readonly processes: ProcessIdentifier & SenderIdentifier;
  readonly finder: HolderFinder;
}

/** Opens identification by the entries of this host. `findNamespace`: where other namespaces are captured than the host's own. */
export function openProcessIdentifier(options: {
  readonly adapters: IdentifierAdapters;
  readonly entries: Watched<ReadonlyMap<string, Entry>>;
  readonly findNamespace?: ((link: string) => string | undefined) | undefined;
  readonly clock: Clock;
  readonly log: Log;
}): OpenedIdentifier {
  const { adapters, entries, findNamespace, clock, log } = options;
  const finder = openHolderFinder(adapters, { clock, log });
  const unix = adapters.unix({
    isDigestWanted: (known) => isDigestWanted(entries.current.values(), known),
    clock,
    log,
  });
  const attestors = [unix, ...(findNamespace === undefined ? [] : [adapters.netns(findNamespace)])];
  return { finder, processes: createProcessIdentifier({ entries, attestors, finder, clock, log }) };
}
