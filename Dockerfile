# Astro Runtime with Airflow 3.3. As it is built on, this image installs packages.txt and requirements.txt,
# and then copies the project to /usr/local/airflow.
FROM astrocrpublic.azurecr.io/runtime:3.3-8

# The provider lies in the project, so it can be installed only now that the project is there.
USER root
RUN uv pip install --system --no-cache-dir -c /etc/pip-constraints.txt /usr/local/airflow/provider
USER astro
