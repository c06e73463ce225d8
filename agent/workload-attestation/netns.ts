import { readlinkSync } from 'node:fs';
import { PicketError } from '../../shared/errors/errors.ts';
import { parseSelector, type Selector } from '../../shared/spiffe/selector.ts';
import { NETNS } from './earned-entries.ts';
import { isUnchanged, readProcessFacts } from './process-facts.ts';
import type { ProcessReference, WorkloadAttestor } from './workload-attestor.ts';

/**
 * The network namespace in which a process lives: `netns:name:NAME` of one that is captured, or of all that one pattern names; `netns:inode:NUMBER` of any but the agent's own, of which nothing is said. An entry that
 * names none is therefore never earned outside of the host's own.
 */
export class NetworkNamespaceAttestor implements WorkloadAttestor {
  readonly type = NETNS;
  readonly #findName: (link: string) => string | undefined;
  readonly #own = readlinkSync('/proc/self/ns/net');

  /** `findName`: as entries call the captured namespace of which /proc says this. */
  constructor(findName: (link: string) => string | undefined) {
    this.#findName = findName;
  }

  async attest({ pid, startTime }: ProcessReference): Promise<readonly Selector[]> {
    const facts = readProcessFacts(pid);
    if (facts?.startTime !== startTime) throw gone(pid);
    const { networkNamespace = 'net:[0]' } = facts;
    if (networkNamespace === this.#own) return await Promise.resolve([]);
    const name = this.#findName(networkNamespace);
    if (!isUnchanged(facts)) throw gone(pid);
    const inode = parseSelector(`${NETNS}:inode:${networkNamespace.replaceAll(/\D/g, '')}`);
    return name === undefined ? [inode] : [parseSelector(`${NETNS}:name:${name}`), inode];
  }
}

function gone(pid: number): PicketError {
  return new PicketError(
    'not_found',
    'process_gone',
    `Cannot attest process ${pid}: it has ended or changed`,
  );
}
