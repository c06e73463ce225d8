import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SyncUpdate } from '../../../agent/server-link/sync-state.ts';
import type { ControlPlane } from '../../kit/control-plane.ts';
import { issueLeaf, writeCredentials } from './mesh-client.ts';
import type { TestCertificate } from '../../kit/test-authority.ts';

/** Somebody who holds the authority's online key and answers at the server's address once the server is gone. */
export class ForgedServer {
  readonly #child: Bun.Subprocess<'pipe', 'pipe', 'inherit'>;
  readonly #artifacts: string;

  private constructor(child: Bun.Subprocess<'pipe', 'pipe', 'inherit'>, artifacts: string) {
    this.#child = child;
    this.#artifacts = artifacts;
  }

  /** Starts it for the agent whose SPIFFE ID ends with `victim`. */
  static async start(
    control: ControlPlane,
    options: {
      readonly intermediate: TestCertificate;
      readonly victim: string;
      /** Whom its certificate names; the server if absent. */
      readonly spiffeId?: string;
    },
  ): Promise<ForgedServer> {
    const { intermediate, victim, spiffeId = 'spiffe://example.org/picket/server' } = options;
    const leaf = await issueLeaf(intermediate, spiffeId);
    const { chainFile, keyFile } = await writeCredentials([leaf, intermediate], control.folder);
    const artifacts = join(control.folder, 'forged-artifacts');
    mkdirSync(artifacts, { recursive: true });
    const program = join(import.meta.dirname, 'programs/forged-server.ts');
    const args = [control.host.ipv4, chainFile, keyFile, victim, artifacts];
    const child = Bun.spawn(control.host.in(process.execPath, program, ...args), {
      stdin: 'pipe',
      stdout: 'pipe',
      stderr: 'inherit',
    });
    const reader = child.stdout.getReader();
    await reader.read();
    reader.releaseLock();
    return new ForgedServer(child, artifacts);
  }

  /** Tells the agent something; the first time it must be everything. */
  async say(update: SyncUpdate): Promise<void> {
    void this.#child.stdin.write(`${JSON.stringify(update)}\n`);
    await this.#child.stdin.flush();
  }

  /** What the agent gets that asks for the artefact of a digest. */
  serveArtifact(digest: string, bytes: Uint8Array): void {
    writeFileSync(join(this.#artifacts, digest), bytes);
  }

  async stop(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#child.exited;
  }
}
