# router: the OpenAI-compatible endpoint. As many as you like, one on each node, each of as many
# processes as it shall use cores; put your load balancer before them.

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

variable "instances" {
  type    = number
  default = 1
}

variable "port" {
  type    = number
  default = 8000
}

variable "processes" {
  type        = number
  default     = 1
  description = "How many processes share the port, on each node: a core each"
}

variable "admin_port" {
  type        = number
  default     = 9100
  description = "Process i answers /metrics, /health and /ready on this plus i; choose another where node_exporter has 9100"
}

job "caravan-router" {
  type        = "service"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  ui {
    description = "The OpenAI-compatible endpoint of **Caravan**. Open streams have two minutes to end when one is stopped."
  }

  group "router" {
    count = var.instances

    constraint {
      distinct_hosts = true
    }

    # One after the other, each when the one before is ready.
    update {
      max_parallel      = 1
      health_check      = "checks"
      min_healthy_time  = "5s"
      healthy_deadline  = "5m"
      progress_deadline = "10m"
    }

    # Views of keys and models: what it starts from when NATS is away.
    ephemeral_disk {
      sticky = true
      size   = 300
    }

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
        static       = var.port
        host_network = var.host_network
      }

      dynamic "port" {
        for_each = range(var.processes)
        labels   = ["admin${port.value}"]

        content {
          static       = var.admin_port + port.value
          host_network = var.host_network
        }
      }
    }

    service {
      name     = "caravan-router"
      provider = "nomad"
      port     = "http"

      check {
        type     = "http"
        path     = "/ready"
        interval = "10s"
        timeout  = "3s"
      }
    }

    # One for each process: what Prometheus reads, and whether each of them is ready.
    dynamic "service" {
      for_each = range(var.processes)

      content {
        name     = "caravan-router-admin"
        provider = "nomad"
        port     = "admin${service.value}"
        tags     = ["process-${service.value}"]

        check {
          name     = "process ${service.value} is ready"
          type     = "http"
          path     = "/ready"
          interval = "10s"
          timeout  = "3s"
        }
      }
    }

    task "router" {
      driver       = var.driver
      kill_signal  = "SIGTERM"
      kill_timeout = "150s"

      env = merge({
        ROUTER_NATS_URL   = var.nats_url
        ROUTER_HOST       = "$${NOMAD_IP_http}"
        ROUTER_PORT       = "$${NOMAD_PORT_http}"
        ROUTER_PROCESSES  = var.processes
        ROUTER_ADMIN_PORT = "$${NOMAD_PORT_admin0}"
        ROUTER_VIEWS_DIR  = "$${NOMAD_ALLOC_DIR}/data/views"
        ROUTER_LOG_FORM   = "json"
      }, var.environment)

      # Secrets stand in the Nomad Variable of the job, not in its text.
      template {
        destination = "secrets/router.env"
        env         = true
        data        = <<-EOT
        {{ if nomadVarExists "nomad/jobs/caravan-router" }}{{ with nomadVar "nomad/jobs/caravan-router" }}
        {{ with .nats_seed }}ROUTER_NATS_SEED={{ . }}
        {{ end }}
        {{ end }}{{ end }}
        EOT
      }

      config {
        image        = var.driver == "docker" ? var.image : null
        network_mode = var.driver == "docker" ? "host" : null
        command      = "/bin/sh"
        args         = ["-c", "exec \"$0\" -m services.router", var.python]
      }

      resources {
        cpu    = 500 * var.processes
        memory = 128 + 128 * var.processes
      }
    }
  }
}
