# A Castellan server with its command line. docs/deploying.md lists its requirements; compose.yaml runs it with Postgres.
FROM node:24.21.0-bookworm-slim AS dependencies
WORKDIR /castellan
COPY package.json pnpm-lock.yaml pnpm-workspace.yaml ./
COPY packages/domain/package.json packages/domain/
COPY packages/adapters/package.json packages/adapters/
COPY packages/http/package.json packages/http/
COPY packages/cli/package.json packages/cli/
RUN npx -y pnpm@12.21.0 install --prod --frozen-lockfile --ignore-scripts --filter "castellan..."

FROM node:24.21.0-bookworm-slim
# git stores repositories; tini runs as the first process and reaps the processes that sandboxes leave behind.
RUN apt-get update \
  && apt-get install -y --no-install-recommends ca-certificates git tini \
  && rm -rf /var/lib/apt/lists/*
RUN install -d -o node -g node -m 700 /var/lib/castellan
# The command line: docker compose exec server castellan …
RUN printf '#!/bin/sh\nexec node /castellan/packages/cli/src/main.ts "$@"\n' > /usr/local/bin/castellan \
  && chmod 755 /usr/local/bin/castellan
WORKDIR /castellan
COPY --from=dependencies /castellan/ ./
COPY packages/domain/src packages/domain/src
COPY packages/adapters/src packages/adapters/src
COPY packages/http/openapi.json packages/http/
COPY packages/http/src packages/http/src
COPY packages/cli/src packages/cli/src
ENV NODE_ENV=production HOST=0.0.0.0 PORT=3000 CASTELLAN_DATA_DIR=/var/lib/castellan
USER node
VOLUME /var/lib/castellan
EXPOSE 3000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
  CMD node -e "fetch('http://127.0.0.1:' + process.argv[1] + '/health').then(({ ok }) => process.exit(ok ? 0 : 1), () => process.exit(1))" "$PORT"
ENTRYPOINT ["tini", "--"]
CMD ["node", "packages/http/src/server/main.ts"]
