import { run } from '../kit/child.ts';

const VERSION = /\d+\.\d+(?:\.\d+)?/;

/** The versions of what Picket is measured beside, by name. */
export async function peerVersions(envoy: string): Promise<Readonly<Record<string, string>>> {
  return {
    haproxy: await versionOf(['haproxy', '-v']),
    nginx: await versionOf(['/usr/sbin/nginx', '-v']),
    Envoy: /-(\d[\d.]*)$/.exec(envoy)?.[1] ?? 'unknown',
  };
}

async function versionOf(command: readonly string[]): Promise<string> {
  const { stdout, stderr } = await run(command);
  return VERSION.exec(stdout + stderr)?.[0] ?? 'unknown';
}
