import { curl, psql, type CurlAnswer } from '../../tests/kit/programs.ts';
import type { RunResult } from '../../tests/kit/child.ts';
import type { TestHost } from '../../tests/kit/netns.ts';
import type { Narrator } from './narrator.ts';

/** One HTTP request of a user on a host. */
export interface HttpRequest {
  readonly host: TestHost;
  /** As the narrator names the host and the user. */
  readonly prompt: string;
  readonly uid: number;
  readonly method?: string;
  readonly url: string;
}

/** Runs curl and shows the command and its answer. */
export async function showCurl(narrator: Narrator, request: HttpRequest): Promise<CurlAnswer> {
  const { host, uid, url, prompt } = request;
  const method = request.method === undefined ? [] : ['-X', request.method];
  narrator.command(prompt, ['curl', ...method, url].join(' '));
  const answer = await curl(host, { uid, args: [...method, url] });
  narrator.output(answer.status === 0 ? answer.error : `HTTP ${answer.status}  ${answer.body}`, 4);
  return answer;
}

/** Runs curl without a word, as when waiting for something to become so. */
export async function askCurl({ host, uid, url, method }: Omit<HttpRequest, 'prompt'>): Promise<CurlAnswer> {
  return await curl(host, { uid, args: [...(method === undefined ? [] : ['-X', method]), url] });
}

/** Runs psql and shows the command and its answer. */
export async function showPsql(
  narrator: Narrator,
  query: {
    readonly host: TestHost;
    readonly prompt: string;
    readonly uid: number;
    readonly server: string;
    readonly sql: string;
  },
): Promise<RunResult> {
  const { host, uid, server, sql, prompt } = query;
  narrator.command(prompt, `psql -h ${server} -c '${sql}'`);
  const result = await psql(host, { uid, server, sql });
  narrator.output(result.exitCode === 0 ? result.stdout : result.stderr, 4);
  return result;
}
