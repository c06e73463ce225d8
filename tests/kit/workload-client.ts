import { chmodSync, copyFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { runOk } from './child.ts';
import type { MeshHost } from './mesh-host.ts';
import { asUser } from './programs.ts';

/** An answer of FetchX509SVID; bytes in base64, keys and certificates in DER. */
export const x509SvidAnswer = z.object({
  svids: z.array(
    z.object({ spiffe_id: z.string(), x509_svid: z.string(), x509_svid_key: z.string(), bundle: z.string() }),
  ),
});

const ROOT = join(import.meta.dirname, '../..');

/** The client of workload-client/main.ts as one executable that any user may run. */
export class WorkloadClient {
  readonly #executable: string;
  readonly #proto: string;

  private constructor(folder: string) {
    this.#executable = join(folder, 'client');
    this.#proto = join(folder, 'workload.proto');
  }

  /** Builds it into `folder`, which it opens to all: other users can read neither the checkout nor Bun. */
  static async build(folder: string): Promise<WorkloadClient> {
    const client = new WorkloadClient(folder);
    copyFileSync(join(ROOT, 'agent/workload-api/proto/workloadapi.proto'), client.#proto);
    const source = join(ROOT, 'tests/kit/workload-client/main.ts');
    await runOk([process.execPath, 'build', '--compile', source, '--outfile', client.#executable]);
    chmodSync(folder, 0o755);
    return client;
  }

  /** The command by which a user on `on` asks for the first `count` answers of `method`. */
  command(on: MeshHost, uid: number, ...[method, count, ...flags]: [string, number, ...string[]]): string[] {
    const client = [this.#executable, on.workloadApi, this.#proto, method, String(count), ...flags];
    return on.host.in(...asUser(uid, ...client));
  }
}
