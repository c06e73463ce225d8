import type { Child } from './child.ts';
import type { TestHost } from './netns.ts';
import type { OutsideCertificate } from './outside-certificate.ts';
import { startNginx } from './programs.ts';

/** nginx outside of the mesh: TLS at 443 and plain HTTP at 80, which answer with the method, the host and the caller's address, or with what they were told of the caller; at /trace with the trace context of the request. */
export class OutsideServer {
  readonly #host: TestHost;
  readonly #folder: string;
  #nginx: Child | undefined;

  constructor(host: TestHost, folder: string) {
    this.#host = host;
    this.#folder = folder;
  }

  /** Starts it, or starts it again, with a certificate. */
  async present({ certificate, key }: OutsideCertificate): Promise<void> {
    await this.stop();
    this.#nginx = await startNginx(this.#host, {
      folder: this.#folder,
      listen: ['80', '[::]:80', '443 ssl http2', '[::]:443 ssl http2', '8443 ssl'],
      locations: `ssl_certificate ${certificate}; ssl_certificate_key ${key};
        location /public/caller { default_type text/plain; return 200 "caller=$http_x_forwarded_client_cert\\n"; }
        location /trace { default_type text/plain; return 200 "$http_traceparent"; }
        location / { default_type text/plain; return 200 "$request_method $host from=$remote_addr\\n"; }`,
    });
  }

  async stop(): Promise<void> {
    await this.#nginx?.stop();
    this.#nginx = undefined;
  }
}
