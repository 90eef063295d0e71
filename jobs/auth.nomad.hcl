# auth: tenants, API keys. Its database is a file on its node, or PostgreSQL (README.md, Secrets).

variable "driver" {
  type        = string
  default     = "raw_exec"
  description = "raw_exec, or docker with an image"
}

variable "image" {
  type        = string
  default     = ""
  description = "With docker: the image"
}

variable "datacenters" {
  type    = list(string)
  default = ["*"]
}

variable "node_pool" {
  type    = string
  default = "default"
}

variable "host_network" {
  type        = string
  default     = "default"
  description = "The clients' network that the port is taken from; name one with IPv4 alone"
}

variable "node" {
  type        = string
  default     = ""
  description = "The name of the node that it is to stay on, for its data; empty: any"
}

variable "python" {
  type        = string
  default     = "/opt/caravan/bin/python"
  description = "The Python of the environment that Caravan is installed in, on each node"
}

variable "nats_url" {
  type    = string
  default = "nats://127.0.0.1:4222"
}

variable "environment" {
  type        = map(string)
  default     = {}
  description = "More settings, by their environment variables"
}

variable "data_dir" {
  type        = string
  default     = "/var/lib/caravan"
  description = "Where the database lives on the node"
}

job "caravan-auth" {
  type        = "service"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  ui {
    description = "Tenants and API keys of **Caravan**. Without it models go on serving; new keys wait."
  }

  group "auth" {
    dynamic "constraint" {
      for_each = var.node == "" ? [] : [var.node]
      content {
        attribute = "$${node.unique.name}"
        value     = constraint.value
      }
    }

    # On the same node, where its data is, for ever.
    restart {
      attempts = 5
      interval = "1m"
      delay    = "2s"
      mode     = "delay"
    }

    shutdown_delay = "1s"

    network {
      mode = "host"
      port "http" {
        host_network = var.host_network
      }
    }

    service {
      name     = "caravan-auth"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/ready"
        interval = "10s"
        timeout  = "3s"
      }
    }

    task "auth" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "30s"

      env = merge({
        AUTH_NATS_URL     = var.nats_url
        AUTH_DATABASE_URL = "sqlite:///${var.data_dir}/auth.db"
        AUTH_HOST         = "$${NOMAD_IP_http}"
        AUTH_PORT         = "$${NOMAD_PORT_http}"
        AUTH_LOG_FORM     = "json"
      }, var.environment)

      # Secrets stand in the Nomad Variable of the job, not in its text.
      template {
        destination = "secrets/auth.env"
        env         = true
        data        = <<-EOT
        {{ if nomadVarExists "nomad/jobs/caravan-auth" }}{{ with nomadVar "nomad/jobs/caravan-auth" }}
        {{ with .database_url }}AUTH_DATABASE_URL={{ . }}
        {{ end }}{{ with .nats_seed }}AUTH_NATS_SEED={{ . }}
        {{ end }}
        {{ end }}{{ end }}
        EOT
      }

      config {
        image        = var.driver == "docker" ? var.image : null
        network_mode = var.driver == "docker" ? "host" : null
        command      = "/bin/sh"
        args         = ["-c", "mkdir -p \"$0\" && exec \"$1\" -m services.auth", var.data_dir, var.python]
      }

      resources {
        cpu    = 200
        memory = 256
      }
    }
  }
}
